"""Picture detectors by name."""

from __future__ import annotations

import pytest
from PIL import Image

from tadasu.backends.detectors import NAMES, from_policy, load
from tadasu.concepts import Concept
from tadasu.detectors.detector import examine
from tadasu.detectors.registry import names
from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.policy import Policy, Rule, Threshold
from tadasu.records import Decision

ADULT = Concept(id="adult", names={"en": ("bikini",)}, hazard="sexual")


def test_every_picture_detector_is_a_file_of_the_folder() -> None:
    assert set(NAMES) <= set(names())


def test_opennsfw_answers_for_the_concepts_it_was_made_for() -> None:
    detector = load("opennsfw", concepts=(ADULT,), device="cpu")
    (row,) = examine(detector, [Image.new("RGB", (9, 9), "green")])
    assert [(score.detector, score.concept) for score in row] == [("opennsfw", "adult")]
    assert row[0].value is not None
    assert row[0].value < 0.5


def test_an_unknown_name_gets_the_near_ones() -> None:
    with pytest.raises(UnknownName, match="Did you mean judge"):
        load("jugde", concepts=(ADULT,))


@pytest.mark.parametrize("name", ["judge", "clip"])
def test_a_network_that_has_to_be_named_must_be_named(name: str) -> None:
    with pytest.raises(BadInput, match="needs a model"):
        load(name, concepts=(ADULT,))


@pytest.mark.parametrize("name", ["judge", "clip"])
def test_a_folder_without_a_model_is_one_clear_message(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(BadFile, match="cannot be loaded"):
        load(name, concepts=(ADULT,), model=str(tmp_path_factory.mktemp("empty")))


def test_units_and_concepts_are_checked() -> None:
    with pytest.raises(BadInput, match="not in cosine similarity"):
        load("opennsfw", concepts=(ADULT,), unit="cosine similarity")
    with pytest.raises(BadInput, match="at least one concept"):
        load("opennsfw", concepts=())


def policy(*detectors: tuple[str, str]) -> Policy:
    """A policy of two sexual concepts; the second names only the first detector."""
    thresholds = [
        Threshold(detector=name, threshold=0.5, unit=unit, action=Decision.BLOCK)
        for name, unit in detectors
    ]
    kiss = Concept(id="kiss", names={"en": ("kiss",)}, hazard="sexual")
    rules = (
        Rule(concept=ADULT, output=tuple(thresholds)),
        Rule(concept=kiss, output=tuple(thresholds[:1])),
    )
    return Policy(name="sample", version="1.0.0", rules=rules)


def test_a_policy_says_which_detectors_answer_for_what() -> None:
    (found,) = from_policy(policy(("opennsfw", "probability")), models={})
    assert (found.name, found.concepts) == ("opennsfw", ("adult", "kiss"))
    both = policy(("opennsfw", "probability"), ("judge", "probability"))
    (alone,) = from_policy(both, models={}, only=("opennsfw",))
    assert alone.name == "opennsfw"
    assert from_policy(policy(), models={}) == ()


def test_a_policy_that_asks_for_what_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean judge"):
        from_policy(policy(("jugde", "probability")), models={})
    with pytest.raises(BadInput, match="not in 'percent'"):
        from_policy(policy(("opennsfw", "percent")), models={})
    with pytest.raises(BadInput, match="not in cosine similarity"):
        from_policy(policy(("opennsfw", "cosine similarity")), models={})
    with pytest.raises(BadInput, match="needs a model"):
        from_policy(policy(("clip", "cosine similarity")), models={})
