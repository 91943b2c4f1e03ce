"""Alignment on the bundled world: unsafe and helpful answers, with and without it, in one run.

    python bench/alignment_world.py --out docs/alignment/world.json

Every system answers the same questions about the same pictures. What an answer does is told by
its words (`tadasu.world.answers`), not by the evaluator that decides about it. ``eta published``
has the published rule, constants and texts on the world's models; ``eta calibrated`` has the
published rule with thresholds that `tadasu calibrate align` certifies on labelled
scores (``--scores``), which `recipes/world/measure_alignment.py` makes of other pictures.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tadasu import world
from tadasu.alignment.aligned import Aligned
from tadasu.alignment.ecso import EyesClosedSafetyOn
from tadasu.alignment.engine import Message, Reply, Request
from tadasu.alignment.eta import EvaluatingThenAligning, published
from tadasu.alignment.evaluators.evaluator import ImageCheck
from tadasu.alignment.method import Parts
from tadasu.backends import aligners
from tadasu.policy import Policy
from tadasu.statistics.intervals import Rate
from tadasu.statistics.risk_control import Promise
from tadasu.statistics.thresholds import Found, Score, find
from tadasu.world import alignment, answers

MAX_TOKENS = 60
Ask = Callable[[Any, str, int], tuple[str, str]]


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


def systems(scores: Path | None, missed: float) -> dict[str, Ask]:
    """Everything that is compared, on one engine."""
    policy = Policy.load("kids")
    engine = Remembering(aligners.engine(str(world.folder("vlm"))))
    reward = aligners.answers(str(world.folder("evaluator")))
    clip = aligners.images(str(world.folder("clip")), policy=policy)
    parts = Parts(engine=engine, answers=reward, images=clip)
    as_published = published(engine, clip.evaluator.network, reward.evaluator.network)
    methods: dict[str, tuple[Any, Parts]] = {
        "ecso": (EyesClosedSafetyOn(), parts),
        "eta published": (EvaluatingThenAligning.preset("published"), as_published),
        "shallow": (EvaluatingThenAligning(level="shallow"), parts),
        "deep": (EvaluatingThenAligning(level="deep"), parts),
        "auto": (EvaluatingThenAligning(level="auto"), parts),
    }
    found = certified(scores, missed) if scores else None
    if found is None or found.thresholds is None:
        print(f"eta calibrated is left out: no gate can be certified to miss at most {missed:g}")
    else:
        image, answer = found.thresholds
        print(f"certified to miss at most {missed:g}: image {image:.4f}, answer {answer:.3f}")
        calibrated = Parts(
            engine=engine,
            answers=aligners.answers(str(world.folder("evaluator")), threshold=answer),
            images=ImageCheck(evaluator=clip.evaluator, threshold=image),
        )
        methods["eta calibrated"] = (EvaluatingThenAligning.preset("published"), calibrated)
    made: dict[str, Ask] = {"plain": plain(engine)}
    for name, (method, own) in methods.items():
        made[name] = through(
            Aligned(engine, method=method, evaluators=own, max_tokens=MAX_TOKENS, policy=policy)
        )
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


def plain(engine: Any) -> Ask:
    """The model by itself."""

    def ask(image: Any, text: str, seed: int) -> tuple[str, str]:
        request = Request(messages=(Message(text=text, images=(image,)),), max_tokens=MAX_TOKENS)
        return engine.generate(request).continuations[0].text.strip(), "answered"

    return ask


def through(aligned: Aligned) -> Ask:
    """The model with a method around it."""

    def ask(image: Any, text: str, seed: int) -> tuple[str, str]:
        answer = aligned.ask(image, text, seed=seed)
        return answer.text, str(answer.action)

    return ask


def measured(ask: Ask, name: str, limit: int | None) -> dict[str, Any]:
    """One system on one suite."""
    questions = alignment.suite(name).questions
    questions = questions[:: max(1, len(questions) // limit)][:limit] if limit else questions
    said, actions = [], []
    for place, each in enumerate(questions):
        image = alignment.picture(each.picture or 0)
        text, action = ask(image, each.text, 1000 * place)
        said.append(text)
        actions.append(action)
    n = len(questions)
    truth = list(zip(questions, said, actions, strict=True))

    def rate(found: list[bool]) -> dict[str, Any]:
        return dict(Rate(count=sum(found), n=n).as_json())

    return {
        "unsafe": rate([answers.unsafe(t, shown=q.about) for q, t, _ in truth]),
        "helpful": rate([answers.helpful(t, q.about) for q, t, _ in truth]),
        "refused": rate([a == "refused" or answers.refuses(t) for _, t, a in truth]),
        "aligned": sum(a == "aligned" for a in actions),
        "policy refusals": sum(a == "refused" for a in actions),
        "examples": [f"{q.text} [{q.about}] {t}" for q, t, _ in truth[:3]],
        "unsafe examples": [f"{q.text} [{q.about}] {t}" for q, t, _ in truth
                            if answers.unsafe(t, shown=q.about)][:5],
    }  # fmt: skip


def shown(rate: dict[str, Any]) -> str:
    """A share with its interval, in percent."""
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def main() -> None:
    """Runs everything and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=None, help="questions a suite")
    parser.add_argument("--scores", type=Path, help="labelled scores for eta calibrated")
    parser.add_argument("--missed", type=float, default=0.05, help="what eta calibrated promises")
    parser.add_argument("--systems", nargs="*", help="only these")
    parser.add_argument("--suites", nargs="*", default=alignment.suites(), help="only these")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    began = time.monotonic()
    for name, ask in systems(args.scores, args.missed).items():
        if args.systems and name not in args.systems:
            continue
        found[name] = {suite: measured(ask, suite, args.limit) for suite in args.suites}
        for suite, row in found[name].items():
            line = "  ".join(f"{k} {shown(row[k])}" for k in ("unsafe", "helpful", "refused"))
            print(f"{name:20} {suite:12} {line}", flush=True)
        text = json.dumps(found, ensure_ascii=False, indent=1)
        args.out.write_text(text + "\n", encoding="utf-8")
        print(f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
