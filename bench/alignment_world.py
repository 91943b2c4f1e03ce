"""Alignment on the bundled world: unsafe and helpful answers, with and without it, in one run.

    python bench/alignment_world.py --folder FOLDER --page docs/alignment/measured.md

Every system answers the same questions about the same pictures (`tadasu evaluate answers` does the
same; here the systems share an engine that remembers, so that equal requests are paid once). What
an answer does is told by its words (`tadasu.world.answers`), not by the evaluator that decides
about it. ``eta`` has the published rule, constants and texts on the world's models; ``eta
calibrated`` has the published rule with the thresholds that ``tadasu calibrate align world``
certifies.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tadasu import world
from tadasu.alignment.aligned import Aligned
from tadasu.alignment.ecso import EyesClosedSafetyOn
from tadasu.alignment.engine import Reply, Request
from tadasu.alignment.eta import EvaluatingThenAligning
from tadasu.alignment.evaluators.evaluator import ImageCheck
from tadasu.alignment.method import Parts
from tadasu.backends import aligners
from tadasu.cli.evaluate_answers import WORLD, Words, world_suites
from tadasu.evaluation.vision_run import Answering, ask, markdown, measured, plain, through
from tadasu.policy import Policy
from tadasu.statistics.risk_control import Promise
from tadasu.statistics.thresholds import Found, Score, find

MAX_TOKENS = 60
SCORES = Path(world.__file__).parent / "suites" / "alignment" / "alignment-scores.csv"


def certified(file: Path, missed: float) -> Found:
    """Thresholds of the published gate, from labelled scores."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in ("image", "answer")}
    scores = [
        Score(name="image", values=columns["image"]),
        Score(name="answer", values=columns["answer"], flags="below"),
    ]
    truth = np.array([row["unsafe"] == "1" for row in rows])
    return find(scores, truth, [Promise(limit=missed)])


def systems(missed: float) -> list[Answering]:
    """Everything that is compared, on one engine."""
    policy = Policy.load("kids")
    engine = Remembering(aligners.engine("world"))
    reward = aligners.answers("world")
    clip = aligners.images("world", policy=policy)
    parts = Parts(engine=engine, answers=reward, images=clip)
    as_published = replace(
        aligners.published("world", answers="world", clip="world"), engine=engine
    )
    methods: dict[str, tuple[Any, Parts]] = {
        "shallow": (EvaluatingThenAligning(level="shallow"), parts),
        "deep": (EvaluatingThenAligning(level="deep"), parts),
        "auto": (EvaluatingThenAligning(level="auto"), parts),
        "eta": (EvaluatingThenAligning.preset("published"), as_published),
        "ecso": (EyesClosedSafetyOn(), parts),
    }
    found = certified(SCORES, missed)
    if found.thresholds is None:
        print(f"eta calibrated is left out: no gate can be certified to miss at most {missed:g}")
    else:
        image, answer = found.thresholds
        print(f"certified to miss at most {missed:g}: image {image:.4f}, answer {answer:.3f}")
        calibrated = Parts(
            engine=engine,
            answers=replace(reward, threshold=answer),
            images=ImageCheck(evaluator=clip.evaluator, threshold=image),
        )
        methods["eta calibrated"] = (EvaluatingThenAligning.preset("published"), calibrated)
    made = [plain(engine, max_tokens=MAX_TOKENS)]
    for name, (method, own) in methods.items():
        aligned = Aligned(
            engine, method=method, evaluators=own, max_tokens=MAX_TOKENS, policy=policy
        )
        made.append(through(aligned, name=name))
    return made


class Remembering:
    """An engine that answers a request it knows from memory; every request here is repeatable.

    Systems share their first answers and many candidates, so most of the run is paid once.
    """

    def __init__(self, engine: Any) -> None:
        self.engine, self.name, self.abilities = engine, engine.name, engine.abilities
        self.content = engine.content
        self.known: dict[Any, Reply] = {}

    def generate(self, request: Request) -> Reply:
        """What the engine says, or said."""
        said = tuple(
            (each.role, each.text, tuple(image.tobytes() for image in each.images))
            for each in request.messages
        )
        how = (request.prefill, request.n, request.sampling, request.until, request.max_tokens)
        key = (said, how)
        if key not in self.known:
            reply = self.engine.generate(replace(request, resume=None))
            plain = tuple(replace(each, resume=None) for each in reply.continuations)
            self.known[key] = replace(reply, continuations=plain, resume=None)
        return self.known[key]


def main() -> None:
    """Runs everything and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="keeps answers; goes on")
    parser.add_argument("--page", type=Path, help="a Markdown page of the tables")
    parser.add_argument("--n", type=int, default=None, help="questions a suite")
    parser.add_argument("--missed", type=float, default=0.1, help="what eta calibrated promises")
    parser.add_argument("--systems", nargs="*", help="only these, after plain")
    parser.add_argument("--suites", nargs="*", default=list(world_suites()), help="only these")
    args = parser.parse_args()
    began = time.process_time()
    every = systems(args.missed)
    chosen = [e for e in every if not args.systems or e.name in ("plain", *args.systems)]
    suites = [world_suites()[name].take(args.n) for name in args.suites]

    def told(what: str, done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"{what} {done}/{total}, {time.process_time() - began:.0f} s", flush=True)

    cells = measured(ask(chosen, suites, args.folder, progress=told), suites, lambda _: Words())
    tables = markdown(cells).replace(f"## {WORLD}", "## ")
    document = {
        "systems": {each.name: {"id": each.id, **each.about} for each in chosen},
        "cells": [cell.as_json() for cell in cells],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    (args.folder / "report.json").write_text(text + "\n", encoding="utf-8")
    if args.page:
        args.page.write_text(f"{INTRODUCTION}\n{tables}", encoding="utf-8")
    print(tables)
    print(f"{time.process_time() - began:.0f} processor seconds")


INTRODUCTION = """# Alignment on the world: measured

<!-- Written by bench/alignment_world.py; do not edit. -->

Every system answers the same questions about the same pictures, in one run, through the public
API. Unsafe, refused and helpful are told by an answer's words, not by the evaluator that decided
about it; helpful means: complies about the right thing by its right name. Brackets are Wilson 95
% intervals; p is McNemar's exact test against `plain`. The suites are described in [the world's
page](../world/alignment.md), the systems in [suites](suites.md). `eta` is the published rule with
the published thresholds, which belong to other models; `eta calibrated` is the published rule
with the thresholds that `tadasu calibrate align world` certifies.
"""


if __name__ == "__main__":
    main()
