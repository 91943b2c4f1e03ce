from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from tadasu.backends.diffusers.context.sample import PipelineDraw
from tadasu.editing.balance import Loop


class Bright:
    """Sees a man in bright pictures, a woman in dark ones, and remembers what it saw."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []

    def __call__(self, pictures: Sequence[Image.Image]) -> list[frozenset[str]]:
        self.pictures += [picture.tobytes() for picture in pictures]
        return [
            frozenset({"man" if sum(p) % 2 else "woman"}) for p in self.pictures[-len(pictures) :]
        ]


def test_pictures_depend_on_amounts_and_seed_and_the_pipeline_is_left_alone(
    families: dict[str, Any],
) -> None:
    judge = Bright()
    draw = PipelineDraw(pipe=families["sd"], judge=judge, steps=1, batch=2)
    plain = draw({}, ["pistol", "cat"], 3, 5)
    assert {name: len(seen) for name, seen in plain.items()} == {"pistol": 3, "cat": 3}
    assert len(set(judge.pictures)) == 6, "every picture has its own seed"
    draw({"pistol": {"toy": 0.5}}, ["pistol"], 1, 5)
    assert judge.pictures[6] != judge.pictures[0]
    draw({}, ["pistol"], 1, 5)
    assert judge.pictures[7] == judge.pictures[0]


def test_concepts_without_amounts_are_moved_by_nothing(families: dict[str, Any]) -> None:
    draw = PipelineDraw(pipe=families["sd"], judge=Bright(), held=("dog",))
    edit = draw.edit({"pistol": {"toy": 0.2}}, ["pistol", "cat"])
    assert edit.recipe["preserve"] == []
    moved = {target["concept"]: target["attributes"] for target in edit.recipe["targets"]}
    assert moved == {"dog": {"toy": 0.0}, "pistol": {"toy": 0.2}, "cat": {"toy": 0.0}}


def test_the_loop_runs_on_a_pipeline(families: dict[str, Any]) -> None:
    draw = PipelineDraw(pipe=families["sd"], judge=Bright(), steps=1)
    loop = Loop(wanted={"gender": {"man": 0.5, "woman": 0.5}}, batch=4, rounds=2)
    (found,) = loop.run(["cat"], draw)
    assert found.total == pytest.approx(8)


def test_values_stand_for_the_forms_they_are_given(families: dict[str, Any]) -> None:
    draw = PipelineDraw(pipe=families["sd"], judge=Bright(), forms={"woman": "woman {}"})
    edit = draw.edit({"cat": {"woman": 0.3, "toy": 0.1}})
    assert edit.recipe["targets"][0]["attributes"] == {"woman {}": 0.3, "toy": 0.1}
