"""Balance all professions of the emoji world at once, and measure before and after.

    python bench/editing_debias.py --out docs/editing/world            # gender
    python bench/editing_debias.py --out docs/editing/world --tones    # gender and skin tone

The loop runs on its own seeds; both measurements use other seeds, ``-n`` pictures per profession.

* gap: mean over professions of |p - 0.5| / 0.5 for the share of men. Chance alone gives a perfectly
  fair model about 0.8 / sqrt(n), so the noise-free gap stands beside it: the root of
  mean((p - 0.5)² - p (1 - p) / (n - 1)) / 0.5, which is an upper bound of the mean gap of the true
  shares. Both with a 95 % bootstrap interval over pictures within professions.
* tone gap: the same for the three tones, |p - 1/3| / (1/3).
* quality: the judge's first choice among objects is the asked profession.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from editing_world import Prompt, World, article

from tadasu import world as bundled
from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.sample import PipelineDraw
from tadasu.editing.balance import Loop
from tadasu.editing.make import Options
from tadasu.editing.problem import Reading
from tadasu.statistics.intervals import Rate

GENDERS = ("man", "woman")
TONES = ("light skin", "medium skin", "dark skin")
FORMS = {g: f"{g} {{}}" for g in GENDERS} | {t: f"{{}} with {t}" for t in TONES}


def told(world, scores, names):
    """Which of several labels the judge finds likeliest, per picture."""
    columns = [world.labels.index(name) for name in names]
    return scores[:, columns].argmax(1)


def measured(world, jobs, n, seed):
    """Per profession and picture: gender, tone, whether the profession itself is seen."""
    prompts = [
        Prompt(article(job), job, "retained", seed + 1000 * k + i)
        for k, job in enumerate(jobs)
        for i in range(n)
    ]
    scores = world.scores(world.draw(prompts))
    right = np.array([world.hit(s, p.label) for s, p in zip(scores, prompts, strict=True)])
    shape = (len(jobs), n)
    return (
        told(world, scores, GENDERS).reshape(shape),
        told(world, scores, TONES).reshape(shape),
        right.reshape(shape),
    )


def gaps(seen, kinds, noise=1):
    """Mean relative gap and its noise-free bound for shares that should all be 1 / kinds."""
    n, wanted = seen.shape[1], 1 / kinds
    shares = np.stack([(seen == kind).mean(1) for kind in range(kinds)])
    naive = np.abs(shares - wanted).mean() / wanted
    square = ((shares - wanted) ** 2 - noise * shares * (1 - shares) / (n - 1)).mean()
    return naive, np.sqrt(max(square, 0)) / wanted


def gap_of(seen, kinds):
    """Both gaps with bootstrap intervals over the pictures of each profession."""
    rng, (jobs, n) = np.random.default_rng(0), seen.shape
    again = (np.take_along_axis(seen, rng.integers(0, n, (jobs, n)), 1) for _ in range(1000))
    # A resample is a sample of a sample, so its squares hold the noise of drawing twice.
    draws = np.array([gaps(one, kinds, noise=2) for one in again])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    mean, free = gaps(seen, kinds)
    return {  # the mean gap has no such correction: its interval is reflected about the estimate
        "mean": {"value": mean, "low": max(2 * mean - high[0], 0), "high": 2 * mean - low[0]},
        "noise_free": {"value": free, "low": low[1], "high": high[1]},
    }


def summary(found, jobs):
    """Gaps of both attributes, how often the profession is named, and shares by profession."""
    genders, tones, right = found
    quality = Rate(count=int(right.sum()), n=right.size)
    return {
        "gender_gap": gap_of(genders, 2),
        "tone_gap": gap_of(tones, 3),
        "quality": quality.as_json(),
        "men": dict(zip(jobs, (genders == 0).mean(1).round(3).tolist(), strict=True)),
        "quality_of": dict(zip(jobs, right.mean(1).round(3).tolist(), strict=True)),
        "n": genders.shape[1],
    }


def main():
    """Measure, run the loop, measure again; the result is written after each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, default=bundled.folder("pipeline"))
    parser.add_argument("--judge", type=Path, default=bundled.folder("judge"))
    parser.add_argument("--out", type=Path, default=Path("docs/editing/world"))
    parser.add_argument("-n", type=int, default=48)
    parser.add_argument("--jobs", type=int, default=None, help="only the first few professions")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="pictures drawn together")
    parser.add_argument("--look", type=int, default=16, help="pictures per profession and look")
    parser.add_argument("--most", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--step", type=float, default=2.0)
    parser.add_argument("--largest", type=float, default=4.0)
    parser.add_argument("--minutes", type=float, default=600.0, help="no new look after these")
    parser.add_argument("--before", type=Path, help="result whose first measurement is taken over")
    parser.add_argument("--spread", type=int, default=1, help="every how many-th label is kept")
    parser.add_argument("--solver", default="layer")
    parser.add_argument("--tones", action="store_true", help="balance skin tones as well")
    args = parser.parse_args()
    world = World(args.pipeline, args.judge, args.steps, args.batch)
    prompts = [prompt.objects[0] for prompt in bundled.suite("professions").prompts]
    jobs = [job for job in prompts if job in world.labels][: args.jobs]
    listed = [label for label in world.labels if bundled.is_object(label) and label not in jobs]

    def judge(pictures):
        stacked = np.stack([np.asarray(p, dtype=np.float32) / 255 for p in pictures])
        scores = world.scores(stacked)
        found = zip(told(world, scores, GENDERS), told(world, scores, TONES), strict=True)
        return [frozenset({GENDERS[g], TONES[t]}) for g, t in found]

    wanted = {"gender": dict.fromkeys(GENDERS, 0.5)}
    if args.tones:
        wanted["tone"] = dict.fromkeys(TONES, 1 / 3)
    draw = PipelineDraw(
        pipe=world.pipe,
        judge=judge,
        forms=FORMS,
        prompts={job: article(job) for job in jobs},
        held=tuple(jobs),
        options=Options(
            solver=args.solver,
            preserve=tuple(listed[:: args.spread]),
            reading=Reading(
                tokens="last+tail",
                hidden=args.solver == "layer",
                templates=("a {}", "an {}"),
                common=tuple(jobs),
            ),
        ),
        steps=args.steps,
        batch=args.batch,
    )
    if args.before:
        before = json.loads(args.before.read_text())["before"]
    else:
        before = summary(measured(world, jobs, args.n, 900_000), jobs)
    result = {"professions": len(jobs), "wanted": wanted, "before": before}
    print(json.dumps(result["before"], indent=1), flush=True)
    start = time.perf_counter()
    loop = Loop(
        wanted=wanted,
        rounds=args.rounds,
        batch=args.look,
        most=args.most,
        step=args.step,
        largest=args.largest,
    )
    balances = ()
    for look in range(args.rounds):
        if time.perf_counter() - start > 60 * args.minutes:
            break
        one = replace(loop, rounds=1, seed=look * args.look)
        balances = one.run(jobs, draw, balances)
        print(
            look,
            {b.concept: (b.total, dict(b.counts), b.amounts.get("man")) for b in balances},
            flush=True,
        )
    result["seconds"] = time.perf_counter() - start
    amounts = {b.concept: dict(b.amounts) for b in balances if b.amounts}
    result["expected"] = {b.concept: dict(b.expected) for b in balances}
    result["pictures"] = sum(b.total for b in balances)
    result["drawn"] = {b.concept: b.total for b in balances}
    result["states"] = {b.concept: b.state for b in balances}
    result["amounts"] = amounts
    args.out.mkdir(parents=True, exist_ok=True)
    name = "editing_debias_tones.json" if args.tones else "editing_debias.json"
    (args.out / name).write_text(json.dumps(result, indent=1))
    edit = draw.edit(amounts, jobs) if amounts else None
    if edit is not None:
        with applied(world.pipe, edit.maps):
            result["after"] = summary(measured(world, jobs, args.n, 900_000), jobs)
        still = [job for job in jobs if job not in amounts]
        result["untouched"] = still
    (args.out / name).write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
