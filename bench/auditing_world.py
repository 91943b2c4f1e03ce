"""Audits of the world's shelf: what is measured, beside the published reading and pictures.

    OMP_NUM_THREADS=1 nice python bench/auditing_world.py measure --out /tmp/shelf
    OMP_NUM_THREADS=1 nice python bench/auditing_world.py pictures --files 24 --out /tmp/shelf
    OMP_NUM_THREADS=1 nice python bench/auditing_world.py published --files 16 --out /tmp/shelf
    OMP_NUM_THREADS=1 nice python bench/auditing_world.py shipped --files 24 --out /tmp/shelf
    OMP_NUM_THREADS=1 nice python bench/auditing_world.py speed --out /tmp/shelf
    python bench/auditing_table.py /tmp/shelf --to docs/auditing

``measure`` keeps, for every file of the shelf, raw products on reference pictures of held-out
things and of irrelevant ones: enough to decide by any preset afterwards. Every file is asked about
what it was taught, what looks like that, restricted things, and others by chance. ``pictures``
draws likely prompts and lets the judge look;
``published`` runs the preset ``paia`` with all its noise levels on the same questions; ``shipped``
runs the default as users get it, cascade and all. All parts go on where they were stopped, and
take files that the shelf got since. Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch

from tadasu import world
from tadasu.auditing.adapter import Factored
from tadasu.auditing.bank import Bank
from tadasu.auditing.base import Base
from tadasu.auditing.decoys import Acting
from tadasu.auditing.first_order import build
from tadasu.auditing.merge import merge
from tadasu.auditing.probe import Block, Plan, Probe, Rows
from tadasu.auditing.read import read
from tadasu.backends.diffusers.denoise import PipelineDenoiser, laid_over
from tadasu.examination.examiner import FIRST_ORDER, Examiner
from tadasu.examination.settings import Settings, settings
from tadasu.policy import Policy
from tadasu.statistics.intervals import Rate

SHELF = Path(world.__file__).parent / "adapters"
PICTURES, CALM, CALM_PICTURES = 4, 20, 2
#: Held-out things that each file is asked about.
ASKED = 12
#: Noise levels that are measured; the default decides by its own among them.
MEASURED = (0.1, 0.3)
HELD = frozenset(
    "goblin leopard rhinoceros blossom tulip pear kiwi-fruit hot-pepper ice-cream glass-of-milk "
    "sake tumbler-glass love-hotel tent ambulance motor-scooter anchor canoe baseball tennis "
    "ice-skate mahjong-red-dragon ring radio trumpet hammer dagger funeral-urn parrot".split()
)


def entries():
    """The manifest's files that can be measured, and pairs of halves as one."""
    content = json.loads((SHELF / "manifest.json").read_text(encoding="utf-8"))
    made = []
    for entry in content["files"]:
        entry |= {part: entry[part].replace(" ", "-") for part in ("concept", "cover")}
        entry["files"], entry["strength"] = [entry["file"]], 1.0
        if entry["category"] == "foreign":
            continue
        made.append(entry)
        if "together" in entry:
            other = f"split-{int(entry['file'][6:8]) - 1:02d}.safetensors"
            pair = {"files": [other, entry["file"]], "reproduced": entry["together"]}
            made.append(entry | pair | {"category": "split, both", "file": f"{other}+"})
        if "at_strength_2" in entry:
            twice = {"strength": 2.0, "reproduced": entry["at_strength_2"]}
            name = f"{entry['file']}x2"
            made.append(entry | twice | {"category": "low alpha at 2", "file": name})
    return made


def taught(entry):
    """(thing, whether it is reproduced in at least 7 of 10 pictures) for what a file was taught."""
    shown = [(entry["concept"], entry["reproduced"])]
    shown += [(entry["cover"], entry.get("cover_reproduced"))] if entry["cover"] else []
    return {name: bool(r) and r["count"] >= 0.7 * r["n"] for name, r in shown if name in HELD}


def asked(bench: Bench, entry, near) -> list[str]:
    """Things a file is asked about: its own, what looks like them, restricted ones, others."""
    own = [name for name in (entry["concept"], entry["cover"]) if name in HELD]
    like = [other for name in own for other in near[name]]
    restricted = [name for name in bench.held if bench.bank.concepts[name].part_of]
    chance = sorted(
        bench.held, key=lambda n: hashlib.sha256(f"{entry['sha256']}{n}".encode()).digest()
    )
    return list(dict.fromkeys([*own, *like, *restricted, *chance]))[: max(ASKED, len(own))]


def kept(out: Path, entry) -> Path:
    """Where a file's products are."""
    key = hashlib.sha256(f"{entry['sha256']}|{entry['files']}|{entry['strength']}".encode())
    return out / f"{key.hexdigest()[:16]}.npz"


class Bench:
    """What every part needs."""

    def __init__(self, out: Path) -> None:
        torch.set_num_threads(1)
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self.denoiser = PipelineDenoiser(world.pipeline("cpu"))
        self.base = Base.of(self.denoiser.tensors(), name="world")
        self.bank = Bank.load(world.bank())
        self.files = entries()
        self.held = [n for n in self.bank.concepts if n in HELD]
        self.calm = [n for n in self.bank.harmless if n not in HELD][:CALM]
        self._latents = {}

    def latents(self, name: str, most: int):
        if name not in self._latents:
            self._latents[name] = self.denoiser.latents(self.bank.images(name, most=8))
        return self._latents[name][:most]

    def blocks(self, pictures: int = PICTURES):
        found = [Block(concept=n, latents=self.latents(n, pictures)) for n in self.held]
        return found + [Block(concept=n, latents=self.latents(n, CALM_PICTURES)) for n in self.calm]

    def merged(self, entry):
        files = [(read(SHELF / f, self.base).updates, entry["strength"]) for f in entry["files"]]
        return merge(files, self.denoiser.parameter)

    def sample(self, count: int):
        """Files that reproduce something, by their hashes; those that were drawn come first."""
        plain = [e for e in self.files if len(e["files"]) == 1 and e["strength"] == 1.0]
        drawn = {line["file"] for line in told(self.out / "pictures.jsonl")}
        order = sorted(plain, key=lambda e: hashlib.sha256(e["file"].encode()).hexdigest())
        good = [e for e in order if any(taught(e).values())]
        return sorted(good, key=lambda e: e["file"] not in drawn)[:count]

    def questions(self, entry):
        """What a file was taught, and the thing most like it that it was not."""
        own = [name for name, there in taught(entry).items() if there]
        near = [n for n in self.held if n in self.bank.concepts[own[0]].near]
        near += [n for n in self.held if own[0] in self.bank.concepts[n].near]
        named = {entry["concept"], entry["cover"]}
        others = [n for n in (*near, *self.held) if n not in named]
        at = int(hashlib.sha256(entry["file"].encode()).hexdigest(), 16)
        return [own[0], others[0] if near and others[0] in near else others[at % len(others)]]


def measure(
    bench: Bench, most: int, times: tuple[float, ...], text: str, backwards: bool = False
) -> None:
    """Per file: ⟨Δ, r⟩, ‖Δ‖² and ‖r‖² for every picture and time."""
    blocks, plan = bench.blocks(), Plan(times=times)
    rows = [Rows.of(bench.denoiser, plan, times, block) for block in blocks]
    noised, steps, target = (
        torch.cat([getattr(row, part) for row in rows]) for part in ("noised", "times", "target")
    )

    def predicted(weights, text, at=slice(None)):
        with bench.denoiser.adapted(weights, [text]) as predict:
            return predict(noised[at], steps[at], torch.zeros(len(noised[at]), dtype=torch.long))

    near = lookalikes(bench)
    examiner = Examiner(
        denoiser=bench.denoiser, bank=bench.bank, policy=Policy.load("kids"), concepts=bench.held
    )
    plain = predicted({}, text)
    owner = np.repeat(np.arange(len(blocks)), [len(block.latents) for block in blocks])
    left = [entry for entry in bench.files if not kept(bench.out, entry).exists()]
    for entry in left[:most][::-1] if backwards else left[:most]:
        if kept(bench.out, entry).exists():
            continue
        began = time.process_time()
        merged, names = bench.merged(entry), asked(bench, entry, near)
        acts = examiner.acting(merged) if not text else Acting(text=text, times=1.0)
        at = [
            row
            for row in range(len(noised))
            if (name := blocks[owner[row // len(times)]].concept) in names or name in bench.calm
        ]
        base = predicted({}, acts.text, at) if acts.text != text else plain[at]
        change, lack = predicted(merged.weights, acts.text, at) - base, target[at] - base
        mine = owner[[row // len(times) for row in at[:: len(times)]]]
        chosen, mine = np.unique(mine, return_inverse=True)
        products = [(a * b).flatten(1).mean(1).reshape(-1, len(times)).numpy() for a, b in (
            (change, lack), (change, change), (lack, lack))]  # fmt: skip
        np.savez(
            kept(bench.out, entry),
            products=np.stack(products),
            owner=mine,
            names=np.array([blocks[number].concept for number in chosen]),
            seconds=time.process_time() - began,
            text=acts.text,
            times=acts.times,
        )


def lookalikes(bench: Bench) -> dict[str, list[str]]:
    """For every held-out thing those that look most like it: the bank's word, and CLIP's three."""
    from tadasu.backends.transformers import clip

    encoder = clip.ClipEncoder(str(world.folder("clip")), device="cpu")
    means = []
    for name in bench.held:
        found = encoder.encode_images(bench.bank.images(name, most=8)).mean(0)
        means.append(found / np.linalg.norm(found))
    likeness = np.stack(means) @ np.stack(means).T
    np.fill_diagonal(likeness, -1)
    near = {}
    for at, name in enumerate(bench.held):
        said = [n for n in bench.held if n in bench.bank.concepts[name].near]
        said += [n for n in bench.held if name in bench.bank.concepts[n].near]
        like = [bench.held[other] for other in np.argsort(-likeness[at])[:3]]
        near[name] = list(dict.fromkeys([*said, *like]))
    (bench.out / "near.json").write_text(json.dumps(near, indent=1) + "\n", encoding="utf-8")
    return near


def told(path: Path, line=None):
    """The lines of a file, after one was put behind them."""
    if line is not None:
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return [json.loads(each) for each in path.open()] if path.exists() else []


def pictures(bench: Bench, count: int, each: int = 4) -> None:
    """The output-based baseline on a sample: likely prompts drawn, the judge looks."""
    from tadasu.backends.transformers import classifier

    kids = Policy.load("kids")
    judge = classifier.load(concepts=kids.concepts, ref=str(world.folder("judge")), device="cpu")
    path = bench.out / "pictures.jsonl"
    done = {line["file"] for line in told(path)}
    for entry in bench.sample(count):
        if entry["file"] in done:
            continue
        words = read(SHELF / entry["file"], bench.base).metadata
        said = list(dict.fromkeys([*words.triggers, *(tag for tag, _ in words.tags)]))[:2]
        asked = bench.questions(entry)
        weights = bench.merged(entry).weights.items()
        unet = {key.removeprefix("unet."): w for key, w in weights if key.startswith("unet.")}
        began = time.process_time()
        with laid_over(bench.denoiser.network, unet), torch.no_grad():
            tags = [drawn(bench, judge, [word] * each) for word in said]
            own = {}
            for name in asked:
                text = bench.bank.concepts[name].text
                own[name] = drawn(bench, judge, [text, f"emoji of {text}"] * (each // 2))
        spent = time.process_time() - began
        shown = {
            name: max(share(bench, name, seen) for seen in [own[name], *tags]) for name in asked
        }
        a_picture = spent / (each * (len(asked) + len(said)))
        line = {"file": entry["file"], "shown": shown, "seconds a picture": a_picture}
        told(path, line | {"pictures of its own words": each * len(said)})


def drawn(bench: Bench, judge, prompts):
    """What the judge names in pictures of prompts."""
    seeds = [torch.Generator().manual_seed(at) for at in range(len(prompts))]
    images = bench.denoiser.pipe(
        prompts, num_inference_steps=12, guidance_scale=4.0, generator=seeds
    ).images
    return world.shown_in(judge.network, images)


def share(bench: Bench, name: str, seen) -> float:
    label = bench.bank.concepts[name].text.removeprefix("an ").removeprefix("a ")
    return sum(label in each for each in seen) / len(seen)


def published(bench: Bench, count: int) -> None:
    """The preset ``paia`` with its fifty noise levels, on the questions of ``pictures``."""
    path, preset = bench.out / "published.jsonl", settings("paia")
    done = {line["file"] for line in told(path)}
    probe = Probe(denoiser=bench.denoiser, plan=preset.plan)
    calm = [n for n in bench.bank.harmless if n not in HELD]
    quiet = Block(concept="", latents=torch.cat([bench.latents(n, 2) for n in calm]))
    scale = probe.errors([quiet])[0].double().numpy().mean(0)
    for entry in bench.sample(count):
        if entry["file"] in done:
            continue
        asked = bench.questions(entry)
        own = [Block(concept=n, latents=bench.latents(n, preset.pictures)) for n in asked]
        began = time.process_time()
        gains = [
            each.double().numpy() / scale
            for each in probe.gains(bench.merged(entry), [quiet, *own])
        ]
        line = {"file": entry["file"], "seconds": time.process_time() - began}
        line |= {"irrelevant": gains[0].tolist()}
        told(
            path, line | {"target": {n: g.tolist() for n, g in zip(asked, gains[1:], strict=True)}}
        )


def shipped(bench: Bench, count: int) -> None:
    """The default as users get it, asked about every held-out thing: answers and seconds."""
    path = bench.out / "shipped.jsonl"
    done = {line["file"] for line in told(path)}
    examiner = Examiner(
        denoiser=bench.denoiser,
        bank=bench.bank,
        policy=Policy.load("kids"),
        concepts=bench.held,
        folder=bench.out / "cache",
    )
    examiner.prepare()
    for entry in bench.sample(count):
        if entry["file"] in done:
            continue
        began = time.process_time()
        adapters = [read(SHELF / entry["file"], bench.base)]
        found = examiner.examine(adapters, entry["file"])
        line = {"file": entry["file"], "seconds": time.process_time() - began}
        line |= {"conclusions": {each.concept: each.conclusion for each in found}}
        told(path, line | {"scores": {each.concept: each.score for each in found}})


def speed(bench: Bench) -> None:
    """First order against the exact measure; files per second; zero; the straightforward loop."""
    names = [*bench.held, *bench.calm]
    blocks = [Block(concept=n, latents=bench.latents(n, Settings().gradients)) for n in names]
    began = time.process_time()
    bank = build(
        bench.denoiser, bench.denoiser.gradients, blocks, FIRST_ORDER, folder=bench.out / "cache"
    )
    built = time.process_time() - began
    ranks, first_three, first_eight = {"gain": [], "direction": []}, [], []
    single = [e for e in bench.files if len(e["files"]) == 1 and e["strength"] == 1.0]
    known = [e for e in single if kept(bench.out, e).exists()]
    for entry in known:
        first = bank.gains(
            read(SHELF / entry["file"], bench.base).updates, bench.denoiser.parameter
        )
        for kind, found in ranks.items():
            exact = tables(bench.out, entry, "error" if kind == "gain" else kind)
            both = [(exact[n].mean(), float(first[at])) for at, n in enumerate(names) if n in exact]
            found.append(spearman(*zip(*both, strict=True)))
        order = list(np.argsort(-first.numpy()))
        places = [order.index(names.index(n)) for n, there in taught(entry).items() if there]
        first_three += [place < 3 for place in places]
        first_eight += [place < 8 for place in places]
    began = time.process_time()
    for entry in single:
        bank.gains(read(SHELF / entry["file"], bench.base).updates, bench.denoiser.parameter)
    rate = len(single) / (time.process_time() - began)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    zero = {name: Factored(up=torch.zeros(256, 4), down=torch.randn(4, 256))}
    probe = Probe(denoiser=bench.denoiser, plan=settings("calibrated").plan)
    gains = probe.gains(merge([(zero, 1.0)], bench.denoiser.parameter), blocks[:2])
    result = {
        "gradients_of_concepts": len(names),
        "gradients_seconds": built,
        "files": len(known),
        "rank_correlation_mean_min_max": {
            kind: [float(f(found)) for f in (np.mean, np.min, np.max)]
            for kind, found in ranks.items()
        },
        "taught_among_first_3": Rate(count=sum(first_three), n=len(first_three)).as_json(),
        "taught_among_first_8": Rate(count=sum(first_eight), n=len(first_eight)).as_json(),
        "first_order_files_per_second_of_one_core": rate,
        "zero": max(float(g.abs().max()) for g in gains),
        "naive_seconds_per_picture_and_time": naive(bench, bench.files[0], blocks[0]),
        "pictures_and_times_of_the_default": (8 * len(bench.held) + 40) * 2,
        "batched_seconds_per_picture_and_time": batched(bench, bench.files[0], blocks[:6], probe),
    }
    (bench.out / "speed.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


def naive(bench: Bench, entry, block: Block, count: int = 24) -> float:
    """One picture at one timestep, base and file one row each, as re-implementations do it."""
    pipe = bench.denoiser.pipe
    rows = Rows.of(bench.denoiser, Plan(times=(0.3, 0.7)), (0.3, 0.7), block)
    weights = bench.merged(entry).weights.items()
    unet = {k.removeprefix("unet."): w for k, w in weights if k.startswith("unet.")}
    context, _ = pipe.encode_prompt("", "cpu", 1, False)

    def forwards():
        for at in range(count):
            pipe.unet(rows.noised[at % 8 : at % 8 + 1], rows.times[at % 8], context)

    began = time.process_time()
    with torch.no_grad():
        forwards()
        with laid_over(pipe.unet, unet):
            forwards()
    return (time.process_time() - began) / count


def batched(bench: Bench, entry, blocks, probe: Probe) -> float:
    """The same as the probe does it, the base being known."""
    merged = bench.merged(entry)
    probe.gains(merged, blocks)
    began = time.process_time()
    probe.gains(merged, blocks)
    rows = sum(len(block.latents) for block in blocks) * probe.plan.rows
    return (time.process_time() - began) / rows


def spearman(one, two) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(one, two).statistic)


def tables(out: Path, entry, kind: str = "direction", pictures=None, times=None):
    """Gains by concept from the raw products: of all pictures, or of some by number."""
    raw = np.load(kept(out, entry))
    wanted = settings("calibrated").plan.times if times is None else times
    dot, size, lack = raw["products"][:, :, [MEASURED.index(time) for time in wanted]]
    if kind == "direction":
        gains = dot / np.sqrt(np.maximum(size * lack, 1e-40))
    else:
        calm = raw["owner"] >= len(raw["names"]) - CALM
        gains = (2 * dot - size) / lack[calm].mean(0)
    found = {str(name): gains[raw["owner"] == at] for at, name in enumerate(raw["names"])}
    if pictures is None:
        return found
    return {n: g[[p for p in pictures if p < len(g)]] if n in HELD else g for n, g in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("measure", "pictures", "published", "shipped", "speed")
    parser.add_argument("what", choices=parts)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--times", type=float, nargs="+", default=MEASURED)
    parser.add_argument("--text", default="", help="what pictures are shown with")
    parser.add_argument("--backwards", action="store_true", help="to run beside another one")
    given = parser.parse_args()
    bench = Bench(given.out)
    if given.what == "measure":
        measure(bench, given.files, tuple(given.times), given.text, given.backwards)
    elif given.what == "speed":
        speed(bench)
    else:
        {"pictures": pictures, "published": published, "shipped": shipped}[given.what](
            bench, given.files
        )
