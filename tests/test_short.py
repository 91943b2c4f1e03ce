"""What a user types at a prompt is short, and policies are taken by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import pytest

import tadasu as td
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.system import System


def test_a_policy_stands_for_its_concepts() -> None:
    pipe, policy = td.world.pipeline(), td.Policy.load("kids")
    guard = td.Guard(pipe, "kids", detectors=[_Sees()], guidance="none")
    assert guard.policy.hash == policy.hash
    with td.attach(pipe, "sld", policy) as one:
        pipe("a cat", num_inference_steps=2)
    with td.attach(pipe, "sld", policy.concepts) as two:
        pipe("a cat", num_inference_steps=2)
    assert one.record is not None
    assert two.record is not None
    assert one.record.concepts == two.record.concepts
    assert System(pipe, guidance="sld", concepts=policy).concepts == policy.concepts
    shown = [guard, policy, policy.concepts[0], policy.rules[0], System(pipe, guidance="sld")]
    (made,) = guard.generate("a cat")
    shown += [made, td.editing.erase(pipe, ["pistol"])]
    for each in shown:
        assert len(repr(each)) < 400, repr(each)


class _Sees:
    """A detector that finds nothing."""

    name, unit = "judge", "probability"
    concepts = tuple(concept.id for concept in td.Policy.load("kids").concepts)

    def score(self, images: Sequence[Any]) -> list[list[td.Score]]:
        return [
            [td.Score(detector="judge", concept=c, value=0.0, unit="probability")
             for c in self.concepts]
            for _ in images
        ]  # fmt: skip


@pytest.mark.parametrize("field", ["names", "aliases", "exceptions", "modifies"])
def test_content_addresses_know_every_word_of_a_concept(field: str) -> None:
    one = td.Policy.load("kids").concepts[0]
    other = dataclasses.replace(one, **cast(Any, {field: {"en": ("something", "else")}}))
    assert repr(one).split(",")[0] == repr(other).split(",")[0]
    pipe = td.world.pipeline()
    ids = {System(pipe, guidance="sld", concepts=(concept,)).id for concept in (one, other)}
    assert len(ids) == 2


def test_a_judge_knows_what_it_looks_for() -> None:
    one = td.Policy.load("kids").concepts[0]
    other = dataclasses.replace(one, names={"en": ("a feather",)})

    class Looks(_Sees):
        def __init__(self, concept: td.Concept) -> None:
            self.looked_for = (concept,)

    judges = [Judge(name="j", detector=Looks(c), thresholds={"weapons": 0.5}) for c in (one, other)]
    assert judges[0].id != judges[1].id
