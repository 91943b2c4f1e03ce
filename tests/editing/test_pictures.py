from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from tadasu.editing.context_map import ContextMap
from tadasu.editing.edit import Edit
from tadasu.editing.pictures import Shown, apart, judged
from tadasu.errors import BadInput
from tadasu.statistics.intervals import Rate


class Painter:
    """A model whose picture of a prompt is a pixel that names what it shows."""

    shades: Mapping[str, int] = {"pistol": 1, "cat": 2, "apple": 3}

    def __init__(self, erased: str) -> None:
        self.erased, self.acting = erased, False
        self.prompts: list[str] = []

    @contextmanager
    def applied(self, *maps: Any) -> Iterator[None]:
        self.acting = True
        yield
        self.acting = False

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], steps: int | None) -> Any:
        self.prompts += prompts
        found = []
        for prompt in prompts:
            names = [
                n for n in self.shades if n in prompt and not (self.acting and n in self.erased)
            ]
            found.append(Image.new("L", (1, 1), self.shades[names[0]] if names else 0))
        return found

    def see(self, pictures: Sequence[Image.Image]) -> list[set[str]]:
        names = {shade: {name} for name, shade in self.shades.items()}
        return [names.get(picture.getpixel((0, 0)), set()) for picture in pictures]  # type: ignore[call-overload]


def _edit(attributes: Mapping[str, float] | None = None) -> Edit:
    target = {"concept": "pistol", "texts": ["pistol"], "attributes": attributes or {}}
    return Edit(
        name="e",
        maps={"context": ContextMap.identity(4)},
        concepts=("pistol",),
        recipe={"targets": [target], "preserve": ["cat"]},
        fingerprint="sha256:x",
    )


def _verdicts(erased: str) -> dict[str, bool]:
    model = Painter(erased)
    found = judged(_edit(), model, model.see, pictures=12, unrelated=["apple"])  # type: ignore[arg-type]
    return {f"{each.kind} {each.text}": each.passed for each in found}


def test_what_is_erased_and_what_is_ruined_decides() -> None:
    assert _verdicts("pistol") == {
        "changed pistol": True,
        "preserved cat": True,
        "unrelated apple": True,
    }
    assert _verdicts("")["changed pistol"] is False
    ruined = _verdicts("pistol cat apple")
    assert (ruined["preserved cat"], ruined["unrelated apple"]) == (False, False)


def test_no_prompt_is_one_that_edits_are_solved_for() -> None:
    from tadasu.editing.problem import SENTENCES

    model = Painter("pistol")
    judged(_edit(), model, model.see, pictures=12)  # type: ignore[arg-type]
    assert not {s.replace("{}", "pistol") for s in SENTENCES} & set(model.prompts)


def test_too_few_pictures_and_a_debiasing_edit_are_refused() -> None:
    model = Painter("pistol")
    with pytest.raises(BadInput, match="no edit can pass"):
        judged(_edit(), model, model.see, pictures=11)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="debias"):
        judged(_edit({"woman": 0.2}), model, model.see, pictures=12)  # type: ignore[arg-type]


def test_fewest_pictures_can_pass_and_one_more_miss_cannot() -> None:
    none, one = (Rate(count=count, n=12) for count in (0, 1))
    before = Rate(count=12, n=12)
    assert Shown(kind="changed", text="x", before=before, after=none).passed
    assert not Shown(kind="changed", text="x", before=before, after=one).passed


def test_unrelated_things_share_no_word_with_the_edit() -> None:
    things = ["water pistol", "cat face", "apple", "car", "tree"]
    assert apart(_edit(), things) == ("apple", "car", "tree")
