from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tadasu.editing.targets import (
    Target,
    check_conflicts,
    debias,
    erase,
    moderate,
    replace,
    texts_of,
)
from tadasu.errors import BadInput


@dataclass(frozen=True)
class Word:
    id: str
    hazard: str = "weapons"
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)


PISTOL = Word("pistol", names={"en": ("pistol", "gun"), "ja": ("ピストル", "gun")})


def test_a_concept_is_taken_in_all_its_languages_and_each_name_once() -> None:
    assert texts_of(PISTOL) == ("pistol", "gun", "ピストル")
    assert erase([PISTOL])[0].texts == ("pistol", "gun", "ピストル")


def test_moderate_takes_one_hazard_and_names_the_others() -> None:
    beer = Word("beer", "alcohol", {"en": ("beer",)})
    assert [target.concept for target in moderate([PISTOL, beer], "alcohol")] == ["beer"]
    with pytest.raises(BadInput, match="alcohol, weapons"):
        moderate([PISTOL, beer], "gore")


def test_empty_names_and_empty_lists_are_refused() -> None:
    for bad in ("", "  "):
        with pytest.raises(BadInput, match="empty name"):
            erase([bad])
    with pytest.raises(BadInput, match="at least one concept"):
        erase([])
    with pytest.raises(BadInput, match="Nothing was given"):
        replace({"pistol": ""})
    with pytest.raises(BadInput, match="No attribute"):
        debias({"doctor": {}})


def test_a_concept_cannot_be_replaced_by_itself() -> None:
    with pytest.raises(BadInput, match="by itself"):
        replace({"Pistol": "pistol "})


def test_conflict_with_the_preserve_list_is_named() -> None:
    with pytest.raises(BadInput, match=r"'pistol'.*preserve list"):
        check_conflicts(erase(["pistol"]), ["cat", "  PISTOL"])
    check_conflicts(erase(["pistol"]), ["water pistol"])


def test_one_text_cannot_go_to_two_places() -> None:
    both = (*erase(["gun"], anchor="toy"), *erase([PISTOL]))
    with pytest.raises(BadInput, match="two places, by concepts 'gun' and 'pistol'"):
        check_conflicts(both, [])


def test_the_same_concept_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="more than once: 'pistol'"):
        erase(["pistol", "pistol"])


def test_weights_are_positive() -> None:
    with pytest.raises(BadInput, match="above 0"):
        Target(concept="a", texts=("a",), weight=0.0)
