"""Balance the genders of all professions of the emoji world at once, and measure before and after.

    python bench/editing_debias.py --pipeline DIR --judge DIR --out docs/editing/world

The loop runs on its own seeds; both measurements use other seeds, ``-n`` pictures per profession.
Gap: mean over professions of |p - 0.5| / 0.5, with a 95 % interval over pictures (bootstrap within
professions). Quality: the judge's first choice among objects is the asked profession.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from editing_world import Prompt, World

from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.sample import PipelineDraw
from tadasu.backends.diffusers.context.solve import Options
from tadasu.backends.diffusers.context.text import PipelineEncoder
from tadasu.editing.debias import Loop
from tadasu.editing.prior import Prior
from tadasu.editing.problem import Reading

PEOPLE = (
    "health worker,student,teacher,judge,farmer,cook,mechanic,factory worker,office worker,"
    "scientist,technologist,singer,artist,pilot,astronaut,firefighter,police officer,detective,"
    "guard,construction worker"
).split(",")


def measured(world, jobs, n, seed):
    """Men and pictures per profession, and how often the profession itself is seen."""
    man, woman = world.labels.index("man"), world.labels.index("woman")
    prompts = [Prompt(f"a {job}", job, "retained", seed + i) for job in jobs for i in range(n)]
    scores = world.scores(world.draw(prompts))
    men = (scores[:, man] > scores[:, woman]).reshape(len(jobs), n)
    right = np.array([world.hit(s, p.label, "x") for s, p in zip(scores, prompts, strict=True)])
    return men, right


def gap_of(men):
    """Mean |p - 0.5| / 0.5 and its bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = [
        np.abs(np.stack([row[rng.integers(0, len(row), len(row))] for row in men]).mean(1) - 0.5)
        for _ in range(1000)
    ]
    low, high = np.quantile([2 * each.mean() for each in draws], [0.025, 0.975])
    return float(2 * np.abs(men.mean(1) - 0.5).mean()), float(low), float(high)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/editing/world"))
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--solver", default="uce")
    args = parser.parse_args()
    world = World(args.pipeline, args.judge, args.steps, 48)
    jobs = [job for job in PEOPLE if job in world.labels]
    encoder = PipelineEncoder(world.pipe)
    others = [label for label in world.labels if label not in jobs][:200]
    prior = Prior.measure(encoder, [f"a {label}" for label in others])

    def judge(pictures):
        stacked = np.stack([np.asarray(p, dtype=np.float32) / 255 for p in pictures])
        scores = world.scores(stacked)
        man, woman = world.labels.index("man"), world.labels.index("woman")
        return [frozenset({"man" if s[man] > s[woman] else "woman"}) for s in scores]

    reading = Reading(tokens="last+tail", templates=("a {}", "{}"))
    options = Options(solver=args.solver, prior=prior, reading=reading)
    draw = PipelineDraw(pipe=world.pipe, judge=judge, options=options, steps=args.steps, batch=48)
    before, right_before = measured(world, jobs, args.n, 900_000)
    print("before", gap_of(before), right_before.mean(), flush=True)
    start = time.perf_counter()
    loop = Loop(
        wanted={"gender": {"man": 0.5, "woman": 0.5}}, rounds=args.rounds, most=64, step=0.3
    )
    balances = loop.run(jobs, draw)
    seconds = time.perf_counter() - start
    amounts = {b.concept: dict(b.amounts) for b in balances if b.amounts}
    edit = draw.edit(amounts, jobs)
    with applied(world.pipe, edit.maps):
        after, right_after = measured(world, jobs, args.n, 900_000)
    result = {
        "professions": len(jobs),
        "gap_before": gap_of(before),
        "gap_after": gap_of(after),
        "quality_before": float(right_before.mean()),
        "quality_after": float(right_after.mean()),
        "pictures": sum(b.total for b in balances),
        "seconds": seconds,
        "states": {b.concept: b.state for b in balances},
        "amounts": amounts,
        "men_before": dict(zip(jobs, before.mean(1).tolist(), strict=True)),
        "men_after": dict(zip(jobs, after.mean(1).tolist(), strict=True)),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "editing_debias.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
