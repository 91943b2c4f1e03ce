"""How well are copies of known files recognised, and how often are strangers taken for copies?

    python bench/auditing_lineage.py [--shelf FOLDER] [--out docs/auditing/lineage]

Every file of the shelf is saved again in another layout and precision, rescaled, cast, re-ranked,
cut down to its cross-attention, and merged with another file; each product is looked up in an index
of the shelf. Every original is looked up in an index of all the others for false alarms. Files of
the shelf that were made of others are no strangers: they are looked up by themselves. Without a
shelf it runs on made-up adapters, for trying out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tadasu.auditing.adapter import Adapter, Factored
from tadasu.auditing.base import Base
from tadasu.auditing.lineage import Sketch, by_group, sketch
from tadasu.auditing.lineage_index import Index, Thresholds
from tadasu.auditing.read import read
from tadasu.statistics.intervals import Rate

WORLD = Path(__file__).parent.parent / "src" / "tadasu" / "world"


def factored(adapter: Adapter, base: Base) -> dict[str, tuple[Tensor, Tensor]]:
    """The whole change as balanced factors, by a decomposition of each weight's change."""
    found = {}
    for name, update in adapter.updates.items():
        if name.endswith(".bias"):
            continue
        pair = None if update.needs_weight else update.factors()
        if pair is None:
            weight = base.weight(name) if update.needs_weight else None
            pair = update.delta(weight).flatten(1), torch.eye(torch.Size(update.shape[1:]).numel())
        q_up, r_up = torch.linalg.qr(pair[0])
        q_down, r_down = torch.linalg.qr(pair[1].T)
        u, s, v = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
        keep = s > s[0] * 1e-6
        root = s[keep].sqrt()
        found[name] = (q_up @ u[:, keep] * root, root[:, None] * (v[keep] @ q_down.T))
    return found


Pairs = Mapping[str, tuple[Tensor, Tensor]]


def rank_cut(pairs: Pairs, adapter: Adapter, share: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Keep the leading share of each update's rank."""
    found = {}
    for name, (up, down) in pairs.items():
        rank = min(adapter.updates[name].rank or up.shape[1], up.shape[1])
        kept = max(1, int(rank * share))
        found[name] = (up[:, :kept], down[:kept])
    return found


def kohya(pairs: Pairs, shapes: Mapping[str, tuple[int, ...]], kind: torch.dtype) -> dict[str, Any]:
    """The update under kohya's names, in another number format."""
    tensors = {}
    for name, (up, down) in pairs.items():
        part, _, rest = name.partition(".")
        stem = f"{'lora_unet' if part == 'unet' else 'lora_te'}_{rest.replace('.', '_')}"
        kernel = shapes[name][2:]
        ones = [1] * len(kernel)
        tensors[f"{stem}.lora_up.weight"] = up.reshape(up.shape[0], -1, *ones).to(kind)
        tensors[f"{stem}.lora_down.weight"] = down.reshape(down.shape[0], -1, *kernel).to(kind)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def scaled(pairs: Pairs, by: float) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (up * by, down) for name, (up, down) in pairs.items()}


def merged(one: Pairs, other: Pairs, weights: tuple[float, float]) -> dict[str, Any]:
    """Two updates added with weights, as one file of the joined rank."""
    found = scaled(one, weights[0])
    for name, (up, down) in scaled(other, weights[1]).items():
        if name in found:
            up = torch.cat([found[name][0], up], dim=1)
            down = torch.cat([found[name][1], down])
        found[name] = (up, down)
    return found


def size(pairs: Pairs) -> float:
    return sum(Factored(up=up, down=down).norm() ** 2 for up, down in pairs.values()) ** 0.5


def equal(one: Pairs, other: Pairs) -> dict[str, Any]:
    """Merged at equal size, as merging tools are set when both are to be seen."""
    return merged(one, other, (1.0, size(one) / size(other)))


def made_up(base: Base, count: int, folder: Path) -> list[Path]:
    """Adapters with a common part, as trainings by one recipe have."""
    names = [name for name in base.shapes if name.endswith(("attn2.to_k", "attn2.to_v", "to_q"))]
    paths = []
    for number in range(count):
        own = torch.Generator().manual_seed(number)
        pairs = {}
        for at, name in enumerate(names):
            out, inner = base.shapes[name]
            common = torch.Generator().manual_seed(10_000 + at)
            shared = torch.randn(out, 4, generator=common), torch.randn(4, inner, generator=common)
            up = torch.randn(out, 4, generator=own) + 0.5 * shared[0]
            pairs[name] = (up * 0.01, torch.randn(4, inner, generator=own) + 0.5 * shared[1])
        paths.append(folder / f"{number:03d}.safetensors")
        save_file(kohya(pairs, base.shapes, torch.float16), str(paths[-1]))
    return paths


def looked_up(index: Index, found: Sketch, name: str, limits: Thresholds) -> tuple[bool, float]:
    match = index.match(found, limits)
    return name in [part.entry.name for part in match.parts], match.residual


def measure(
    paths: list[Path], base: Base, work: Path, limits: Thresholds, kinds: Mapping[str, str]
) -> dict[str, Any]:
    """Change every file in every way and look each result up among all known ones."""
    adapters = {path.stem: read(path, base) for path in paths}
    sketches = {name: sketch(adapter, base) for name, adapter in adapters.items()}
    names = list(adapters)
    everything = Index.of(sketches.values(), names)
    pairs = {name: factored(adapter, base) for name, adapter in adapters.items()}
    rng = np.random.default_rng(7)
    partner = {
        name: names[(at + 1 + int(rng.integers(len(names) - 1))) % len(names)]
        for at, name in enumerate(names)
    }
    half, single = torch.float16, torch.float32
    forms: dict[str, Callable[[str], tuple[Pairs, torch.dtype]]] = {
        "saved again (other factors, kohya, fp16)": lambda n: (pairs[n], half),
        "cast to bf16": lambda n: (pairs[n], torch.bfloat16),
        "rescaled × 0.25": lambda n: (scaled(pairs[n], 0.25), half),
        "rescaled × 3": lambda n: (scaled(pairs[n], 3.0), half),
        "half the rank": lambda n: (rank_cut(pairs[n], adapters[n], 0.5), half),
        "a quarter of the rank": lambda n: (rank_cut(pairs[n], adapters[n], 0.25), half),
        "merged 1 : 1 at equal size, partner known": lambda n: (
            equal(pairs[n], pairs[partner[n]]),
            single,
        ),
        "merged 1 : 1 at equal size, partner unknown": lambda n: (
            equal(pairs[n], pairs[partner[n]]),
            single,
        ),
        "merged 1 : 1 as they are, partner unknown": lambda n: (
            merged(pairs[n], pairs[partner[n]], (1.0, 1.0)),
            single,
        ),
        "merged 0.7 : 0.3 of its size, partner unknown": lambda n: (
            merged(
                pairs[n], pairs[partner[n]], (0.7, 0.3 * size(pairs[n]) / size(pairs[partner[n]]))
            ),
            single,
        ),
    }
    rows: dict[str, Any] = {}
    for form, make in forms.items():
        hits, residuals, missed, cosines = 0, [], [], []
        for name in names:
            made, kind = make(name)
            path = work / "made.safetensors"
            save_file(kohya(made, base.shapes, kind), str(path))
            found = sketch(read(path, base), base)
            index = everything
            if form.endswith("unknown"):
                index = without(everything, partner[name])
            hit, residual = looked_up(index, found, name, limits)
            hits += hit
            residuals.append(residual)
            cosines.append(float(found.unit() @ sketches[name].unit()))
            if not hit:
                missed.append(f"{name} ({kinds.get(name, '')})")
        rows[form] = {
            "recognised": Rate(count=hits, n=len(names)).as_json(),
            "median residual": float(np.median(residuals)),
            "cosine, lowest and median": [min(cosines), float(np.median(cosines))],
            "missed": missed[:10],
        }
    return {"recognised": rows} | strangers(everything, sketches, names, limits, kinds)


def without(index: Index, *names: str) -> Index:
    keep = [at for at, entry in enumerate(index.entries) if entry.name not in names]
    return Index(entries=tuple(index.entries[at] for at in keep), rows=index.rows[keep])


def strangers(
    index: Index,
    sketches: Mapping[str, Sketch],
    names: list[str],
    limits: Thresholds,
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """How often a file is taken for another that has nothing to do with it."""
    units = torch.stack([found.unit() for found in sketches.values()])
    table = units @ units.T
    upper = table[*torch.triu_indices(len(names), len(names), 1)]
    groups = [
        max(by_group(sketches[a], sketches[b]).values(), default=0.0)
        for at, a in enumerate(names)
        for b in names[:at]
    ]
    alarms = {
        name: index_match.parts[0].entry.name
        for name in names
        if (index_match := without(index, name).match(sketches[name], limits)).known
    }
    told = [f"{a} ({kinds.get(a, '')}) as {b} ({kinds.get(b, '')})" for a, b in alarms.items()]
    return {
        "false alarms, files against all others": Rate(count=len(alarms), n=len(names)).as_json(),
        "false alarms, pairs": Rate(
            count=int((upper >= limits.derived).sum()), n=len(upper)
        ).as_json(),
        "alarms": told,
        "cosine of strangers: median, 99 %, 99.9 %, highest": [
            float(np.quantile(upper.numpy(), q)) for q in (0.5, 0.99, 0.999, 1.0)
        ],
        "highest group cosine of strangers: 99.9 %, highest": [
            float(np.quantile(groups, q)) for q in (0.999, 1.0)
        ],
    }


def relatives(
    shelf: Path, listed: list[dict[str, Any]], base: Base, index: Index, limits: Thresholds
) -> dict[str, Any]:
    """Files of the shelf that were made of others, by category: are all their sources named?"""
    found: dict[str, Any] = {}
    for entry in listed:
        sources = [Path(name).stem for name in entry.get("from") or []]
        if sources:
            match = index.match(sketch(read(shelf / entry["file"], base), base), limits)
            named = {part.entry.name for part in match.parts}
            row = found.setdefault(entry["category"], {"hits": 0, "n": 0, "missed": []})
            row["n"] += 1
            row["hits"] += set(sources) <= named
            if not set(sources) <= named:
                kinds = f"{match.kind} of {sorted(named)}"
                row["missed"].append(f"{entry['file']} ({', '.join(sources)}): {kinds}")
    return {
        name: Rate(count=row["hits"], n=row["n"]).as_json() | {"missed": row["missed"]}
        for name, row in found.items()
    }


def speed(sketches: Mapping[str, Sketch]) -> dict[str, float]:
    """Seconds of one look-up among 100,000 entries."""
    some = next(iter(sketches.values()))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(100_000, some.values.numel(), generator=generator)
    entry = Index.of([some], ["x"]).entries[0]
    index = Index(entries=(replace(entry, digest="-"),) * len(rows), rows=rows)
    index.match(some)  # lengths are computed once per index
    began = time.process_time()
    index.match(some)
    return {"seconds of one core, one file among 100,000": time.process_time() - began}


def rate(found: Mapping[str, Any]) -> str:
    value = f"{found['value']:.1%}" if found["value"] is not None else "-"
    return f"{value} ({found['count']} of {found['n']}; {found['low']:.1%} to {found['high']:.1%})"


def page(result: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['files']} files of the shelf; Wilson 95 % intervals.",
        "",
        "| done to the known file | recognised | cosine, lowest and median | unexplained |",
        "|---|---|---|---|",
    ]
    for form, row in result["recognised"].items():
        low, median = row["cosine, lowest and median"]
        lines.append(
            f"| {form} | {rate(row['recognised'])} | {low:.3f}, {median:.3f} "
            f"| {row['median residual']:.2f} |"
        )
    made = result.get("made of files of the shelf", {})
    lines += [
        "",
        *(f"* on the shelf, {n}: all sources named in {rate(r)}" for n, r in made.items()),
    ]
    names = ("false alarms, files against all others", "false alarms, pairs")
    lines += ["", *(f"* {name}: {rate(result[name])}" for name in names)]
    for name in result:
        if "cosine" in name:
            lines.append(f"* {name}: " + ", ".join(f"{value:.2f}" for value in result[name]))
    speeds = result["files per second of one core"]
    read_rate, sketch_rate = speeds["read"], speeds["sketch"]
    lines.append(f"* files a second of one core: {read_rate:.0f} read, {sketch_rate:.0f} sketched")
    lines += [f"* {name}: {value:.2f}" for name, value in result["look-up"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the shelf and write ``lineage.json`` and ``lineage.md``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shelf", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = Base.from_folder(WORLD / "pipeline")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        kinds: dict[str, str] = {}
        if options.shelf:
            whole = json.loads((options.shelf / "manifest.json").read_text())["files"]
            listed = [e for e in whole if not e.get("from") and e["category"] != "foreign"]
            paths = [options.shelf / entry["file"] for entry in listed]
            for entry in listed:
                cover = f"+{entry['cover']}" if entry["cover"] else ""
                way, seen = entry["way"]["name"], entry["reproduced"]["count"]
                kinds[Path(entry["file"]).stem] = f"{entry['concept']}{cover} {way} {seen}/10"
        else:
            paths = made_up(base, options.count, work)
        sketch(read(paths[0], base), base)  # the fixed vectors are made once
        began = time.process_time()
        adapters = [read(path, base) for path in paths]
        reading = time.process_time() - began
        sketches = {a.path.stem: sketch(a, base) for a in adapters}
        both = time.process_time() - began - reading
        result = {
            "files": len(paths),
            "shelf": str(options.shelf.name) if options.shelf else "made up",
            "files per second of one core": {
                "read": len(paths) / reading,
                "sketch": len(paths) / both,
            },
            "look-up": speed(sketches),
        } | measure(paths, base, work, Thresholds(), kinds)
        if options.shelf:
            index = Index.of(sketches.values(), list(sketches))
            made = relatives(options.shelf, whole, base, index, Thresholds())
            result["made of files of the shelf"] = made
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "lineage.json").write_text(text + "\n")
        (options.out / "lineage.md").write_text(page(result))


if __name__ == "__main__":
    main()
