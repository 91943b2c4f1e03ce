"""Picture detectors by name."""

from __future__ import annotations

import pytest
from PIL import Image

from tadasu.backends.detectors import NAMES, load
from tadasu.concepts import Concept
from tadasu.detectors import names
from tadasu.detectors.detector import examine
from tadasu.errors import BadFile, BadInput, UnknownName

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
