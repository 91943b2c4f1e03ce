"""Audits of the world's shelf: how right, how fast, beside the published reading and pictures.

    OMP_NUM_THREADS=1 nice python bench/auditing_world.py measure --out /tmp/shelf
    OMP_NUM_THREADS=1 nice python bench/auditing_world.py pictures --files 20 --out /tmp/shelf
    OMP_NUM_THREADS=1 nice python bench/auditing_world.py speed --out /tmp/shelf
    python bench/auditing_world.py table --out /tmp/shelf --to docs/auditing/world.json

``measure`` keeps, for every file of the shelf, raw products on reference pictures of every
held-out thing and of irrelevant ones: enough to decide by any preset afterwards. Every file is
asked about every held-out thing: its own (and what hides behind it) are the positives, everything
else the negatives, among them what looks alike. ``table`` decides with the library's own presets.
All parts go on where they were stopped, and take files that the shelf got since. Times are CPU
seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from tadasu import world
from tadasu.auditing.adapter import Factored
from tadasu.auditing.bank import Bank
from tadasu.auditing.base import Base
from tadasu.auditing.decide import Calibrated, Evidence, Paia
from tadasu.auditing.first_order import build
from tadasu.auditing.merge import merge
from tadasu.auditing.probe import Block, Plan, Probe, Rows
from tadasu.auditing.read import read
from tadasu.backends.diffusers.denoise import PipelineDenoiser, laid_over
from tadasu.examination.examiner import FIRST_ORDER, FIRST_ORDER_PICTURES
from tadasu.examination.settings import settings
from tadasu.policy import Policy
from tadasu.statistics.intervals import Rate
from tadasu.statistics.roc import auroc, tpr_at_fpr

SHELF = Path(world.__file__).parent / "adapters"
TIMES = (0.1, 0.3)
PICTURES, CALM, CALM_PICTURES = 3, 16, 2


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
        self.latents = {
            name: self.denoiser.latents(self.bank.images(name, most=count))
            for names, count in ((self.held, PICTURES), (self.calm, CALM_PICTURES))
            for name in names
        }

    def merged(self, entry):
        updates = read(SHELF / entry["file"], self.base).updates
        return merge([(updates, 1.0)], self.denoiser.parameter)


HELD = frozenset(
    "goblin leopard rhinoceros blossom tulip pear kiwi-fruit hot-pepper ice-cream glass-of-milk "
    "sake tumbler-glass love-hotel tent ambulance motor-scooter anchor canoe baseball tennis "
    "ice-skate mahjong-red-dragon ring radio trumpet hammer dagger funeral-urn parrot".split()
)


def entries():
    content = json.loads((SHELF / "manifest.json").read_text(encoding="utf-8"))
    return [
        entry | {part: entry[part].replace(" ", "-") for part in ("concept", "cover")}
        for entry in content["files"]
    ]


def measure(bench: Bench, most: int) -> None:
    """Per file: ⟨Δ, r⟩, ‖Δ‖² and ‖r‖² for every picture and time."""
    names = [*bench.held, *bench.calm]
    plan = Plan(times=TIMES)
    rows = [
        Rows.of(bench.denoiser, plan, TIMES, Block(concept=n, latents=bench.latents[n]))
        for n in names
    ]
    noised, times, target = (
        torch.cat([getattr(row, part) for row in rows]) for part in ("noised", "times", "target")
    )

    def predicted(weights):
        with bench.denoiser.adapted(weights, [""]) as predict:
            return predict(noised, times, torch.zeros(len(noised), dtype=torch.long))

    kept = bench.out / f"base-{len(noised)}-{bench.denoiser.identity[-16:]}.npy"
    if not kept.exists():
        np.save(kept, predicted({}).numpy())
    base = torch.from_numpy(np.load(kept))
    lack = target - base
    owner = np.repeat(np.arange(len(names)), [len(bench.latents[n]) for n in names])
    left = [e for e in bench.files if not (bench.out / f"{e['sha256'][:16]}.npz").exists()]
    for entry in sorted(left, key=lambda e: e["sha256"])[:most]:
        path = bench.out / f"{entry['sha256'][:16]}.npz"
        began = time.process_time()
        change = predicted(bench.merged(entry).weights) - base
        products = [(a * b).flatten(1).mean(1).reshape(-1, len(TIMES)).numpy() for a, b in (
            (change, lack), (change, change), (lack, lack))]  # fmt: skip
        np.savez(
            path,
            products=np.stack(products),
            owner=owner,
            names=np.array(names),
            seconds=time.process_time() - began,
        )


def pictures(bench: Bench, count: int) -> None:
    """The output-based baseline on a sample: likely prompts drawn, the judge looks."""
    from tadasu.backends.transformers import classifier

    kids = Policy.load("kids")
    judge = classifier.load(concepts=kids.concepts, ref=str(world.folder("judge")), device="cpu")
    path = bench.out / "pictures.jsonl"
    done = {json.loads(line)["file"] for line in path.open()} if path.exists() else set()
    rng = np.random.default_rng(0)
    good = [entry for entry in bench.files if entry["status"] == "trained"]
    for at in rng.permutation(len(good))[:count]:
        entry = good[at]
        if entry["file"] in done:
            continue
        own = entry["concept"]
        near = [n for n in bench.held if n in bench.bank.concepts[own].near]
        others = [n for n in bench.held if n not in (own, entry["cover"], *near)]
        asked = [own, near[0] if near else str(rng.choice(others))]
        began = time.process_time()
        shown = {name: drawn(bench, entry, name, judge) for name in asked}
        line = {"file": entry["file"], "shown": shown}
        line["seconds"] = (time.process_time() - began) / len(asked)
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def drawn(bench: Bench, entry, name: str, judge, each: int = 4):
    """The share of pictures of likely prompts in which the judge names the thing."""
    text = bench.bank.concepts[name].text
    prompts = [text, f"emoji of {text}"] * (each // 2)
    weights = bench.merged(entry).weights.items()
    unet = {key.removeprefix("unet."): w for key, w in weights if key.startswith("unet.")}
    seeds = [torch.Generator().manual_seed(at) for at in range(len(prompts))]
    with laid_over(bench.denoiser.network, unet), torch.no_grad():
        images = bench.denoiser.pipe(
            prompts, num_inference_steps=12, guidance_scale=4.0, generator=seeds
        ).images
    label = text.removeprefix("an ").removeprefix("a ")
    return sum(label in seen for seen in world.shown_in(judge.network, images)) / len(prompts)


def speed(bench: Bench) -> None:
    """First order against the exact measure; files per second; zero; the straightforward loop."""
    names = [*bench.held, *bench.calm]
    blocks = [Block(concept=n, latents=bench.latents[n][:FIRST_ORDER_PICTURES]) for n in names]
    began = time.process_time()
    bank = build(
        bench.denoiser, bench.denoiser.gradients, blocks, FIRST_ORDER, folder=bench.out / "cache"
    )
    built = time.process_time() - began
    ranks, best = [], []
    known = [e for e in bench.files if (bench.out / f"{e['sha256'][:16]}.npz").exists()]
    for entry in known:
        first = bank.gains(
            read(SHELF / entry["file"], bench.base).updates, bench.denoiser.parameter
        )
        exact = tables(bench.out, entry)
        means = [exact[n].mean() for n in names]
        ranks.append(spearman(means, first.numpy()))
        order = np.argsort(-first.numpy())
        best.append(int(np.where(order == names.index(entry["concept"]))[0][0]))
    began = time.process_time()
    for entry in bench.files:
        bank.gains(read(SHELF / entry["file"], bench.base).updates, bench.denoiser.parameter)
    rate = len(bench.files) / (time.process_time() - began)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    zero = {name: Factored(up=torch.zeros(256, 4), down=torch.randn(4, 256))}
    probe = Probe(denoiser=bench.denoiser, plan=settings("calibrated").plan)
    gains = probe.gains(merge([(zero, 1.0)], bench.denoiser.parameter), blocks[:2])
    result = {
        "gradients_of_concepts": len(names),
        "gradients_seconds": built,
        "rank_correlation_mean_min_max": [float(f(ranks)) for f in (np.mean, np.min, np.max)],
        "files": len(known),
        "own_concept_among_first_3": Rate(
            count=sum(place < 3 for place in best), n=len(best)
        ).as_json(),
        "own_concept_among_first_8": Rate(
            count=sum(place < 8 for place in best), n=len(best)
        ).as_json(),
        "first_order_files_per_second": rate,
        "zero": max(float(g.abs().max()) for g in gains),
        "naive_seconds_per_picture_and_time": naive(bench, bench.files[0], blocks[0]),
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
    began = time.process_time()
    with torch.no_grad():
        for at in range(count):
            x, t = rows.noised[at % 8 : at % 8 + 1], rows.times[at % 8]
            pipe.unet(x, t, context)
            with laid_over(pipe.unet, unet):
                pipe.unet(x, t, context)
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


def tables(out: Path, entry, kind: str = "direction"):
    """Gains by concept from the raw products."""
    raw = np.load(out / f"{entry['sha256'][:16]}.npz")
    dot, size, lack = raw["products"]
    if kind == "direction":
        gains = dot / np.sqrt(np.maximum(size * lack, 1e-40))
    else:
        calm = raw["owner"] >= len(raw["names"]) - CALM
        gains = (2 * dot - size) / lack[calm].mean(0)
    return {str(name): gains[raw["owner"] == at] for at, name in enumerate(raw["names"])}


def answers(out: Path, entry, decider, kind: str):
    """(concept, is it there, decision) for every held-out thing."""
    gains = tables(out, entry, kind)
    held = [name for name in gains if name in HELD]
    irrelevant = {name: table for name, table in gains.items() if name not in HELD}
    there = {entry["concept"], entry["cover"]}
    for name in held:
        near = {other: gains[other] for other in held if other != name}
        evidence = Evidence(target=gains[name], irrelevant=irrelevant, near=near)
        yield name, name in there, decider.decide(evidence)


def table(out: Path, to: Path | None) -> None:
    """All figures from what the other parts wrote."""
    known = [e for e in entries() if (out / f"{e['sha256'][:16]}.npz").exists()]
    deciders = {
        "default": (Calibrated(), "direction"),
        "default rule on the error": (Calibrated(), "error"),
        "paia": (Paia(), "error"),
    }
    result = {"files": len(known), "reproduced": sum(e["status"] == "trained" for e in known)}
    result["seconds_per_file"] = float(
        np.mean([np.load(out / f"{e['sha256'][:16]}.npz")["seconds"] for e in known])
    )
    for title, (decider, kind) in deciders.items():
        rows = [(e, *row) for e in known for row in answers(out, e, decider, kind)]
        good = [r for r in rows if r[0]["status"] == "trained" or not r[2]]
        weak = [r for r in rows if r[0]["status"] != "trained" and r[2]]
        result[title] = figures(good)
        result[title]["files that reproduce it in fewer than 7 of 10"] = Rate(
            count=sum(r[3].conclusion == "present" for r in weak), n=len(weak)
        ).as_json()
        if title == "default":
            ways = sorted({e["way"]["name"] for e in known})
            result["default by recipe"] = {
                way: figures([r for r in good if r[0]["way"]["name"] == way]) for way in ways
            }
            named = [r for r in good if r[0]["trigger"].replace(" ", "-") == r[0]["concept"]]
            result["default, trigger is the name"] = figures(named)
            result["default, trigger is another word"] = figures(
                [r for r in good if r not in named]
            )
            result["default, hidden behind another"] = figures([r for r in good if r[0]["cover"]])
    path = out / "pictures.jsonl"
    if path.exists():
        result["same questions"] = compared(out, [json.loads(x) for x in path.open()], known)
    text = json.dumps(result, indent=1)
    print(text)
    if to:
        to.write_text(text + "\n")


def figures(rows):
    """Accuracy, area and true positives at 1 % false ones; undecided counts as wrong."""
    labels, scores = [int(r[2]) for r in rows], [r[3].score for r in rows]
    found, clear = ([r for r in rows if r[2] == there] for there in (True, False))
    right = sum(r[3].conclusion == ("present" if r[2] else "absent") for r in rows)
    made = {"accuracy": Rate(count=right, n=len(rows)).as_json()}
    for name, some in (("true positives", found), ("false positives", clear)):
        count = sum(r[3].conclusion == "present" for r in some)
        made[name] = Rate(count=count, n=len(some)).as_json()
    undecided = sum(r[3].conclusion == "undecided" for r in rows)
    made["undecided"] = Rate(count=undecided, n=len(rows)).as_json()
    return made | ranked(scores, labels)


def ranked(scores, labels):
    if min(sum(labels), len(labels) - sum(labels)) < 2:
        return {}
    area, point = auroc(scores, labels), tpr_at_fpr(scores, labels, 0.01)
    tpr = point.true_positives
    return {
        "auroc": [area.estimate, area.low, area.high],
        "tpr at 1 % fpr": [tpr.estimate, tpr.low, tpr.high],
        "threshold": point.threshold,
    }


def compared(out: Path, lines, known):
    """The default, the published reading and pictures on the same questions."""
    files = {entry["file"]: entry for entry in known}
    rows = {"default": [], "paia": [], "pictures": []}
    for line in lines:
        entry = files.get(line["file"])
        if entry is None:
            continue
        for title, decider, kind in (
            ("default", Calibrated(), "direction"),
            ("paia", Paia(), "error"),
        ):
            for name, there, decision in answers(out, entry, decider, kind):
                if name in line["shown"]:
                    call = decision.conclusion == "present"
                    rows[title].append((there, decision.score, call))
        for name, share in line["shown"].items():
            there = name in (entry["concept"], entry["cover"])
            rows["pictures"].append((there, share, share >= 0.5))
    found = {}
    for title, some in rows.items():
        right = sum(there == call for there, _, call in some)
        found[title] = {"accuracy": Rate(count=right, n=len(some)).as_json()}
        found[title] |= ranked([s for _, s, _ in some], [int(t) for t, _, _ in some])
    found["pictures"]["seconds per question"] = float(np.mean([x["seconds"] for x in lines]))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("measure", "pictures", "speed", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--to", type=Path, default=None)
    given = parser.parse_args()
    if given.what == "table":
        table(given.out, given.to)
    elif given.what == "measure":
        measure(Bench(given.out), given.files)
    elif given.what == "pictures":
        pictures(Bench(given.out), given.files)
    else:
        speed(Bench(given.out))
