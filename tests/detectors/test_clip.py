"""Zero-shot arithmetic in a plane in which every angle is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadasu.concepts import Concept
from tadasu.detectors.card import ClipCard
from tadasu.detectors.clip import ClipZeroShot
from tadasu.errors import BadFile, BadInput, RunFailed

WEAPONS = Concept(id="weapons", names={"en": ("pistol", "bomb")}, hazard="weapons")
BEER = Concept(id="beer", names={"ja": ("ビール",)}, prompts=(), hazard="age_restricted")
ANGLES = {"pistol": 0.0, "bomb": 90.0, "ビール": 180.0, "a thing": 60.0, "a drawn pistol": 30.0}


@dataclass
class Plane:
    """Texts and pictures as directions; a picture's width in pixels is its angle in degrees."""

    logit_scale: float = 2.0
    asked: list[str] = field(default_factory=list)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.array([7 * direction(image.width - 1) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return np.array([3 * direction(ANGLES[text]) for text in texts])


def direction(degrees: float) -> np.ndarray:
    if degrees == 999:
        return np.array([math.nan, 0.0])
    return np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def at(degrees: int) -> Image.Image:
    return Image.new("RGB", (degrees + 1, 1))


def detector(network: Plane, **changes: object) -> ClipZeroShot:
    given: dict[str, object] = {"looked_for": (WEAPONS, BEER), "neutral": ("a thing",)}
    return ClipZeroShot(network=network, **(given | changes))  # type: ignore[arg-type]


def test_the_share_against_the_neutral_texts() -> None:
    # At 0 degrees: pistol 1, neutral cos 60 = 1/2, scale 2: share = 1 / (1 + e^(2 (1/2 - 1))).
    ((weapons, beer),) = detector(Plane()).score([at(0)])
    assert weapons.value == pytest.approx(1 / (1 + math.exp(-1)))
    assert weapons.note == "pistol"
    assert beer.value == pytest.approx(1 / (1 + math.exp(3)))
    assert weapons.unit == "probability"


def test_the_nearest_text_speaks_for_the_concept() -> None:
    assert detector(Plane()).score([at(80)])[0][0].note == "bomb"


def test_cosines_do_not_depend_on_lengths_or_neutral_texts() -> None:
    ((weapons, beer),) = detector(Plane(), unit="cosine similarity").score([at(0)])
    assert weapons.value == pytest.approx(1.0)
    assert beer.value == pytest.approx(-1.0)
    assert weapons.unit == "cosine similarity"


def test_the_temperature_divides_the_scale() -> None:
    warm = detector(Plane(logit_scale=20.0), temperature=10.0).score([at(0)])
    assert warm[0][0].value == pytest.approx(1 / (1 + math.exp(-1)))


def test_adding_a_concept_changes_no_other_score() -> None:
    both = detector(Plane()).score([at(40)])[0][0]
    alone = detector(Plane(), looked_for=(WEAPONS,)).score([at(40)])[0][0]
    assert both == alone


def test_texts_are_encoded_once() -> None:
    network = Plane()
    asked = detector(network)
    for _ in range(3):
        asked.score([at(0), at(9)])
    assert sorted(network.asked) == ["a thing", "bomb", "pistol", "ビール"]


def test_names_are_framed_and_prompts_are_not() -> None:
    armed = Concept(
        id="armed", names={"en": ("pistol",)}, prompts=("bomb", "a drawn pistol"), hazard="weapons"
    )
    found = detector(Plane(), looked_for=(armed,), template="a drawn {}").texts
    assert found == {"armed": ("bomb", "a drawn pistol")}


def test_one_broken_picture_leaves_its_neighbours_alone() -> None:
    rows = detector(Plane()).score([at(0), at(999), at(0)])
    assert [row[0].state for row in rows] == ["scored", "unscored", "scored"]
    assert rows[0] == rows[2]
    assert detector(Plane()).score([]) == []


def test_a_text_without_direction_is_a_failure_and_no_score() -> None:
    lost = detector(Plane(), neutral=("lost",))
    ANGLES["lost"] = 999
    with pytest.raises(RunFailed, match="no direction"):
        lost.score([at(0)])
    del ANGLES["lost"]


@pytest.mark.parametrize(
    "changes",
    [
        {"looked_for": ()},
        {"neutral": ()},
        {"template": "a picture"},
        {"temperature": 0.0},
        {"temperature": math.nan},
    ],
)
def test_parameters_that_mean_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        detector(Plane(), **changes)


def test_the_card_is_read_beside_the_weights(tmp_path: Path) -> None:
    assert ClipCard.beside(tmp_path) == ClipCard()
    (tmp_path / "clip.json").write_text('{"neutral": ["a cat"], "temperature": 2, "for": "you"}')
    assert ClipCard.beside(tmp_path) == ClipCard(neutral=("a cat",), temperature=2.0)


@pytest.mark.parametrize("content", ["[]", "{", '{"neutral": "cat"}', '{"temperature": "hot"}'])
def test_a_broken_card_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "clip.json").write_text(content)
    with pytest.raises(BadFile, match=r"clip\.json' is not a card"):
        ClipCard.beside(tmp_path)
