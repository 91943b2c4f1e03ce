"""NudeNet 3: which parts of bodies a picture shows.

Praneeth Bedapudi, NudeNet 3.4.2; a YOLOv8n of 320 x 320 pixels with 18 labels. The score is the
surest box among the labels asked for, by default the five that stand for NudeNet in evaluations
on I2P. Boxes are not thinned out, because thinning never removes the surest one.

Where we depart from the package: it reads files as blue-green-red and turns the channels around
twice, so its documented use feeds the network wrong colours; here it sees red, green, blue, as it
was trained. The licence is unclear (repository AGPL-3.0, package metadata MIT); so it is an extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tadasu.detectors.detector import check_images, measured
from tadasu.errors import BadInput, UnknownName
from tadasu.records import Score

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

LABELS = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
EXPOSED = (
    "ANUS_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
)
"""The labels that count as nudity in evaluations on I2P."""


@dataclass(frozen=True, kw_only=True)
class NudeNet:
    """Scores the surest exposed part of a body.

    Args:
        network: prepared pictures to boxes; 4 numbers of place and 18 probabilities each.
        concepts: the ids of the concepts that this probability stands for; sexual ones.
        labels: the labels that count; any of `LABELS`.
        side: pixels a side at which the network looks; 320, or 640 for the larger weights.

    Raises:
        BadInput: no concept or no label was given, or the side is no multiple of 32.
        UnknownName: a label that the network does not know.
    """

    network: Callable[
        [Float32[np.ndarray, "image 3 side side"]], Float32[np.ndarray, "image 22 box"]
    ]
    concepts: tuple[str, ...] = ("sexual",)
    labels: tuple[str, ...] = EXPOSED
    side: int = 320

    name = "nudenet"
    unit = "probability"

    def __post_init__(self) -> None:
        """Check the labels before the first picture."""
        if not self.concepts or not self.labels:
            raise BadInput("nudenet needs at least one concept and one label.")
        if self.side < 32 or self.side % 32:
            raise BadInput(f"nudenet's side must be a multiple of 32; given {self.side}.")
        for label in self.labels:
            if label not in LABELS:
                raise UnknownName("nudenet label", label, LABELS)

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        """The surest box with one of the labels in each picture.

        Raises:
            BadInput: something in the list is not an RGB picture.
        """
        check_images(images)
        if not images:
            return []
        boxes = self.network(np.stack([prepared(image, self.side) for image in images]))
        return [self._scored(each) for each in boxes]

    def _scored(self, boxes: Float32[np.ndarray, "22 box"]) -> list[Score]:
        chances = boxes[4:]
        if not np.all(np.isfinite(chances)):
            return [measured(self, concept, float("nan")) for concept in self.concepts]
        winner = chances.argmax(axis=0)  # a box is what it most looks like
        surest, label = 0.0, "no box with one of the labels"
        for asked in self.labels:
            of_label = chances.max(axis=0)[winner == LABELS.index(asked)]
            if of_label.size and of_label.max() > surest:
                surest, label = float(of_label.max()), asked
        return [measured(self, concept, surest, label) for concept in self.concepts]


def prepared(image: Image.Image, side: int) -> Float32[np.ndarray, "3 side side"]:
    """A picture as the network takes it: red, green, blue from 0 to 1, padded to a square.

    The padding is black and lies to the right and below; the square is then sampled bilinearly
    without smoothing, as the network's own tools do.
    """
    pixels = np.asarray(image, dtype=np.float32)
    square = np.zeros((max(image.size), max(image.size), 3), dtype=np.float32)
    square[: image.height, : image.width] = pixels
    sampled = _sampled(_sampled(square, side).transpose(1, 0, 2), side).transpose(1, 0, 2)
    return np.ascontiguousarray(np.rint(sampled).transpose(2, 0, 1) / 255.0, dtype=np.float32)


def _sampled(
    rows: Float[np.ndarray, "row column 3"], count: int
) -> Float[np.ndarray, "count column 3"]:
    """Linear sampling of `count` rows at the centres of their pixels, clamped at the edges."""
    places = (np.arange(count) + 0.5) * rows.shape[0] / count - 0.5
    places = np.clip(places, 0, rows.shape[0] - 1)
    above = np.floor(places).astype(np.int64)
    below = np.minimum(above + 1, rows.shape[0] - 1)
    share = (places - above).astype(np.float32)[:, None, None]
    return np.asarray(rows[above] * (1 - share) + rows[below] * share)
