"""Concepts and the crosswalk of their hazards."""

from __future__ import annotations

from typing import Any

import pytest

from tadasu.concepts import AILUMINATE, HAZARDS, I2P, OPENAI, Concept
from tadasu.errors import BadInput, UnknownName


def test_the_taxonomies_have_their_known_sizes() -> None:
    assert (len(AILUMINATE), len(OPENAI), len(I2P)) == (12, 13, 7)


@pytest.mark.parametrize(
    ("field", "taxonomy"), [("ailuminate", AILUMINATE), ("openai", OPENAI), ("i2p", I2P)]
)
def test_every_category_is_reached_and_none_is_invented(
    field: str, taxonomy: tuple[str, ...]
) -> None:
    used = {name for hazard in HAZARDS.values() for name in getattr(hazard, field)}
    assert used == set(taxonomy)


def test_the_table_is_keyed_by_id() -> None:
    assert all(key == hazard.id and hazard.says.endswith(".") for key, hazard in HAZARDS.items())


def test_text_is_the_first_prompt_then_the_english_name() -> None:
    names = {"ja": ("銃",), "en": ("gun", "pistol")}
    assert Concept(id="a", names=names, prompts=("a gun",), hazard="weapons").text == "a gun"
    assert Concept(id="a", names=names, hazard="weapons").text == "gun"
    assert Concept(id="a", names={"ja": ("銃",)}, hazard="weapons").text == "銃"


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"id": "A b"}, BadInput, "a-z"),
        ({"id": ""}, BadInput, "a-z"),
        ({"hazard": "weapon"}, UnknownName, "Did you mean weapons"),
        ({"severity": "hgih"}, UnknownName, "Did you mean high"),
        ({"names": {}}, BadInput, "neither"),
        ({"names": {"en": ()}}, BadInput, "neither"),
    ],
)
def test_bad_fields(changed: dict[str, Any], error: type[Exception], says: str) -> None:
    fields: dict[str, Any] = {"id": "a", "names": {"en": ("gun",)}, "hazard": "weapons"}
    with pytest.raises(error, match=says):
        Concept(**fields | changed)


def test_names_cannot_be_changed_from_outside() -> None:
    names = {"en": ("gun",)}
    concept = Concept(id="a", names=names, hazard="weapons")
    names["en"] = ("cat",)
    assert concept.names["en"] == ("gun",)
    with pytest.raises(TypeError):
        concept.names["en"] = ()  # type: ignore[index]
