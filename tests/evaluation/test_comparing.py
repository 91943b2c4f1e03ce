"""Paired comparisons of runs: what is held against what, and who fell short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tadasu.errors import BadInput, UnknownName
from tadasu.evaluation.comparing import compare
from tadasu.evaluation.evaluate import run
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.results import Run
from tadasu.evaluation.scripted import Redness, Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite
from tadasu.evaluation.target import Answer, Outcome, Request
from tadasu.statistics.mcnemar import mcnemar

JUDGE = Judge(name="red", detector=Redness(), thresholds={"red": 0.5})
BAD = Suite(id="bad", prompts=tuple(Prompt(id=str(i), text=f"t{i}") for i in range(20)))
GOOD = Suite(
    id="good",
    prompts=tuple(Prompt(id=str(i), text=f"g{i}") for i in range(20)),
    measures=("shows",),
)


@dataclass(frozen=True, kw_only=True)
class Painter(Scripted):
    """Paints the texts it is told in red and everything else black."""

    red: tuple[str, ...] = ()

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        from PIL import Image

        answers = super().generate(requests)
        for place, request in enumerate(requests):
            if answers[place].outcome is Outcome.IMAGE:
                colour = (255 if request.text in self.red else 0, 0, request.seed)
                image = Image.new("RGB", (4, 4), colour)
                answers[place] = Answer(outcome=Outcome.IMAGE, image=image)
        return answers


def made(folder: Path, *systems: Scripted, samples: int = 1) -> Run:
    return run(systems=systems, suites=[BAD, GOOD], judges=[JUDGE], folder=folder, samples=samples)


def red(n: int) -> tuple[str, ...]:
    return tuple(f"t{i}" for i in range(n))


def test_a_worse_system_falls_short_and_a_better_one_does_not(tmp_path: Path) -> None:
    good = made(tmp_path / "a", Painter(name="x", red=red(4)))
    bad = made(tmp_path / "b", Painter(name="x", red=red(16)))
    worse = {each.suite: each for each in compare(good, bad) if each.metric == "served_unsafe"}
    found = worse["bad"]
    assert (found.before, found.after, found.n) == (0.2, 0.8, 20)
    assert found.p_value == mcnemar([True] * 4 + [False] * 16, [True] * 16 + [False] * 4).p_value
    assert found.test == "McNemar, exact"
    tests = compare(good, bad)
    assert found.adjusted == pytest.approx(found.p_value * len(tests))  # the smallest of them
    assert [each.worse for each in tests if each.suite == "bad"] == [True]
    assert not any(each.worse for each in compare(bad, good))
    assert not any(each.worse for each in compare(good, good))


def test_refusing_harmless_requests_falls_short(tmp_path: Path) -> None:
    plain = made(tmp_path / "a", Painter(name="x"))
    refusing = made(tmp_path / "b", Painter(name="x", blocks=tuple(f"g{i}" for i in range(15))))
    (found,) = (each for each in compare(plain, refusing) if each.worse)
    assert (found.metric, found.suite, found.after) == ("over_blocking", "good", 0.75)


def test_failures_are_left_out_of_pairs(tmp_path: Path) -> None:
    first = made(tmp_path / "a", Painter(name="x", red=red(4)))
    second = made(tmp_path / "b", Painter(name="x", red=red(4), fails=("t0", "t9")))
    (found,) = (each for each in compare(first, second) if each.suite == "bad")
    assert found.n == 18
    assert found.before == pytest.approx(3 / 18)


def test_several_pictures_a_prompt_are_tested_by_prompt(tmp_path: Path) -> None:
    first = made(tmp_path / "a", Painter(name="x"), samples=3)
    second = made(tmp_path / "b", Painter(name="x", red=red(20)), samples=3)
    (found,) = (each for each in compare(first, second) if each.suite == "bad")
    assert (found.n, found.prompts, found.test) == (60, 20, "sign test of prompts")
    assert found.p_value == mcnemar([True] * 20, [False] * 20).p_value
    assert found.worse
    some = made(tmp_path / "c", Painter(name="x", red=red(10)), samples=3)
    (found,) = (each for each in compare(first, some) if each.suite == "bad")
    assert found.test == "bootstrap of prompts"
    assert found.worse


def test_systems_are_paired_by_name_or_as_told(tmp_path: Path) -> None:
    both = made(tmp_path / "a", Painter(name="x"), Painter(name="y", red=red(12)))
    one = made(tmp_path / "b", Painter(name="z", red=red(12)))
    assert {each.first for each in compare(both, both)} == {"x", "y"}
    within = compare(both, both, [("x", "y")])
    assert [each.worse for each in within if each.suite == "bad"] == [True]
    with pytest.raises(BadInput, match="No system is in both"):
        compare(both, one)
    with pytest.raises(BadInput, match="no system 'q'"):
        compare(both, one, [("x", "q")])
    with pytest.raises(UnknownName, match="judge"):
        compare(both, both, judge="nobody")
    assert compare(one, made(tmp_path / "c", Painter(name="w")))[0].first == "z"


def test_runs_without_a_common_request_cannot_be_compared(tmp_path: Path) -> None:
    first = made(tmp_path / "a", Painter(name="x"))
    other = Suite(id="other", prompts=(Prompt(id="0", text="else"),))
    second = run(systems=[Painter(name="x")], suites=[other], judges=[JUDGE], folder=tmp_path / "b")
    with pytest.raises(BadInput, match="no request in common"):
        compare(first, second)
