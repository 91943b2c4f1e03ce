"""The contract: every picture is answered for, and no failure looks like a clean score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from PIL import Image

from tadasu.detectors.detector import Detector, check_images, examine, measured
from tadasu.detectors.registry import names
from tadasu.errors import BadInput
from tadasu.records import Score


@dataclass
class Brightness:
    """Scores the red channel; fails on pictures of a given width, as a full memory would."""

    fails_on: int = -1
    forgets: bool = False
    name: str = "brightness"
    unit: str = "probability"
    concepts: tuple[str, ...] = ("light", "glare")

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        check_images(images)
        if any(image.width == self.fails_on for image in images):
            raise RuntimeError("out of memory")
        rows = [
            [measured(self, concept, image.getpixel((0, 0))[0] / 255) for concept in self.concepts]  # type: ignore[index]
            for image in images
        ]
        return rows[1:] if self.forgets else rows


def grey(level: int, width: int = 2) -> Image.Image:
    return Image.new("RGB", (width, 2), (level, level, level))


def test_the_sample_detector_fits_the_contract() -> None:
    assert isinstance(Brightness(), Detector)


def test_every_picture_is_answered_in_order() -> None:
    rows = examine(Brightness(), [grey(level) for level in (0, 51, 255)], batch_size=2)
    assert [row[0].value for row in rows] == [0.0, 0.2, 1.0]
    assert [score.concept for score in rows[0]] == ["light", "glare"]
    assert examine(Brightness(), []) == []


def test_a_failing_batch_is_unscored_and_the_others_keep_their_scores() -> None:
    images = [grey(255), grey(255, width=7), grey(255)]
    rows = examine(Brightness(fails_on=7), images, batch_size=1)
    assert [row[0].state for row in rows] == ["scored", "unscored", "scored"]
    assert rows[1][1].value is None
    assert "RuntimeError: out of memory" in rows[1][1].note
    assert rows[1][0].against(0.5).flagged is None


def test_a_detector_that_answers_too_little_is_not_believed() -> None:
    rows = examine(Brightness(forgets=True), [grey(0), grey(0)])
    assert len(rows) == 2
    assert {score.state for row in rows for score in row} == {"unscored"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_no_score(value: float) -> None:
    score = measured(Brightness(), "light", value)
    assert score.state == "unscored"
    assert str(value) in score.note


@pytest.mark.parametrize(
    "image", ["cat.png", None, Image.new("L", (2, 2)), Image.new("RGBA", (2, 2))]
)
def test_only_rgb_pictures_are_taken(image: object) -> None:
    with pytest.raises(BadInput, match="1 is"):
        examine(Brightness(), [grey(0), image])  # type: ignore[list-item]


def test_the_batch_size_is_at_least_one() -> None:
    with pytest.raises(BadInput, match="at least 1"):
        examine(Brightness(), [grey(0)], batch_size=0)


def test_the_folder_is_the_list() -> None:
    assert {"clip", "judge", "nudenet", "opennsfw"} <= set(names())
    assert not {"card", "detector", "images", "registry"} & set(names())
