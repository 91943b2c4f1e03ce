from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tadasu.editing.balance import Amounts, Balance, Loop, mean_gap
from tadasu.errors import BadInput, RunFailed

GENDER = {"gender": {"man": 0.5, "woman": 0.5}}
BOTH = GENDER | {"tone": {"light": 0.4, "dark": 0.6}}


class Studio:
    """A pretended model: logits of the shares move with the amounts; the skew is known."""

    def __init__(self, skew: Mapping[str, float], tone: float = 0.4) -> None:
        self.skew, self.tone = skew, tone
        self.rng = np.random.default_rng(0)
        self.drawn: dict[str, int] = {}
        self.touched: set[str] = set()

    def share(self, concept: str, amounts: Mapping[str, float]) -> float:
        start = math.log(self.skew[concept] / (1 - self.skew[concept]))
        push = 4 * (amounts.get("man", 0.0) - amounts.get("woman", 0.0))
        return 1 / (1 + math.exp(-start - push))

    def __call__(
        self, amounts: Amounts, concepts: Sequence[str], n: int, seed: int
    ) -> dict[str, list[frozenset[str]]]:
        self.touched |= set(amounts)
        result = {}
        for concept in concepts:
            men = self.rng.random(n) < self.share(concept, amounts.get(concept, {}))
            light = self.rng.random(n) < self.tone
            self.drawn[concept] = self.drawn.get(concept, 0) + n
            result[concept] = [
                frozenset({"man" if m else "woman", "light" if w else "dark"})
                for m, w in zip(men, light, strict=True)
            ]
        return result


def test_skewed_concepts_are_balanced_together_and_fair_ones_left_alone() -> None:
    skew = {"firefighter": 0.9, "nurse": 0.1, "singer": 0.5, "judge": 0.8}
    studio = Studio(skew)
    loop = Loop(wanted=GENDER, tolerance=0.12, most=400, rounds=80)
    found = {b.concept: b for b in loop.run(list(skew), studio)}
    for concept, balance in found.items():
        assert studio.share(concept, balance.amounts) == pytest.approx(0.5, abs=0.13)
    assert found["firefighter"].amounts["woman"] > 0.1
    assert found["nurse"].amounts["man"] > 0.1
    assert "singer" not in studio.touched
    assert found["singer"].amounts == {}
    before = np.mean([abs(s - 0.5) / 0.5 for s in skew.values()])
    assert mean_gap(list(found.values()))[0] < before / 3


def test_balanced_concepts_are_not_drawn_any_more() -> None:
    studio = Studio({"fair": 0.5, "skewed": 0.97})
    loop = Loop(wanted=GENDER, tolerance=0.25, most=192, rounds=40, step=0.05)
    loop.run(["fair", "skewed"], studio)
    assert studio.drawn["fair"] < studio.drawn["skewed"]


def test_a_run_goes_on_where_an_earlier_one_ended() -> None:
    studio, loop = Studio({"a": 0.9}), Loop(wanted=GENDER, most=96, rounds=1)
    first = loop.run(["a"], studio)
    second = loop.run(["a", "b"], Studio({"a": 0.9, "b": 0.5}), first)
    assert [balance.total for balance in (*first, *second)] == [16, 32, 16]
    assert second[0].amounts


def test_two_attributes_are_counted_on_the_same_pictures_and_moved_apart() -> None:
    studio = Studio({"pilot": 0.9})
    (found,) = Loop(wanted=BOTH, tolerance=0.15, most=200, rounds=60).run(["pilot"], studio)
    assert set(found.amounts) == {"man", "woman"}, "tone was as wanted, so it is not touched"
    assert found.n["gender"] == found.n["tone"]


def test_ten_pictures_decide_nothing() -> None:
    balance = Balance(concept="x", loop=Loop(wanted=GENDER, tolerance=0.05))
    five = [frozenset({"man"})] * 5 + [frozenset({"woman"})] * 5
    assert balance.after(five).state == "open"
    seven = [frozenset({"man"})] * 7 + [frozenset({"woman"})] * 3
    assert balance.after(seven).state == "open"


def test_amounts_are_counted_apart_and_nothing_counted_is_thrown_away() -> None:
    loop = Loop(wanted=GENDER)
    balance = Balance(concept="x", loop=loop).after([frozenset({"man"})] * 40)
    moved = balance.stepped(loop.answers({"x": balance}))
    assert moved.amounts["man"] < -0.3
    assert moved.amounts["woman"] == pytest.approx(-moved.amounts["man"])
    assert moved.n == {"gender": 0}
    assert moved.total == 40
    assert moved.after([frozenset({"woman"})] * 2).counts == {"woman": 2}


def test_a_concept_is_not_touched_before_it_is_surely_off() -> None:
    loop = Loop(wanted=GENDER)
    seen = [frozenset({"man"})] * 7 + [frozenset({"woman"})] * 3
    balance = Balance(concept="x", loop=loop).after(seen)
    assert balance.stepped(loop.answers({"x": balance})).amounts == {}
    surely = balance.after(seen * 6)
    assert surely.stepped(loop.answers({"x": surely})).amounts["woman"] > 0


def test_what_is_edited_follows_the_model_also_before_it_is_surely_off_again() -> None:
    loop = Loop(wanted=GENDER)
    start = Balance(concept="x", loop=loop).after([frozenset({"man"})] * 40)
    moved = start.stepped(loop.answers({"x": start}))
    seen = [frozenset({"man"})] * 12 + [frozenset({"woman"})] * 4
    again = moved.after(seen)
    assert again.state == "open"
    assert again.stepped(loop.answers({"x": again})).amounts["man"] < moved.amounts["man"] - 0.02


def test_amounts_have_a_limit() -> None:
    loop = Loop(wanted=GENDER, step=9.0, largest=0.7)
    balance = Balance(concept="x", loop=loop).after([frozenset({"man"})] * 40)
    moved = balance.stepped(loop.answers({"x": balance}))
    assert moved.amounts == pytest.approx({"man": -0.7, "woman": 0.7})


def test_a_judge_that_cannot_tell_stops_the_loop() -> None:
    balance = Balance(concept="x", loop=Loop(wanted=GENDER))
    with pytest.raises(RunFailed, match="could tell 'gender' in 3 of 10"):
        balance.after(
            [frozenset({"man"})] * 3 + [frozenset()] * 4 + [frozenset({"man", "woman"})] * 3
        )


def test_wanted_shares_must_add_up() -> None:
    for bad in ({"g": {"a": 0.5, "b": 0.6}}, {"g": {"a": 1.0}}, {"g": {"a": 0.0, "b": 1.0}}, {}):
        with pytest.raises(BadInput):
            Loop(wanted=bad)
    with pytest.raises(BadInput, match="no concept"):
        mean_gap([])
