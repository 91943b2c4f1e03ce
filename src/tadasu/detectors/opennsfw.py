"""Yahoo's open_nsfw: the probability that a picture is not suitable for work.

Jay Mahadeokar and Gerry Pesavento, "Open Sourcing a Deep Learning Solution for Detecting NSFW
Images", Yahoo Engineering 2016; a ResNet-50-thin for sexual content in photographs, weights under
BSD-2-Clause. Pictures are prepared as in the original ``classify_nsfw.py``: squeezed to 256 x 256
(bilinear), stored as JPEG and read again, cut to the middle 224 x 224, blue-green-red, and the
mean of each channel taken off. The JPEG step belongs to it, as the training data went through it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tadasu.detectors.detector import check_images, measured
from tadasu.errors import BadInput
from tadasu.records import Score

if TYPE_CHECKING:
    from jaxtyping import Float32

SQUEEZED, CUT = 256, 224
MEAN_BLUE_GREEN_RED = np.array([104, 117, 123], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class OpenNSFW:
    """Scores how unsuitable for work a picture is, for the concepts it is made to answer for.

    Args:
        network: prepared pictures to the probabilities of "suitable" and "not suitable".
        concepts: the ids of the concepts that this probability stands for; sexual ones.

    Raises:
        BadInput: no concept was given.
    """

    network: Callable[[Float32[np.ndarray, "image 224 224 3"]], Float32[np.ndarray, "image 2"]]
    concepts: tuple[str, ...] = ("sexual",)

    name = "opennsfw"
    unit = "probability"

    def __post_init__(self) -> None:
        """Check that it answers for something."""
        if not self.concepts:
            raise BadInput("opennsfw needs at least one concept that its probability stands for.")

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        """The probability that each picture is not suitable for work.

        Raises:
            BadInput: something in the list is not an RGB picture.
        """
        check_images(images)
        if not images:
            return []
        chances = self.network(np.stack([prepared(image) for image in images]))
        return [
            [measured(self, concept, float(unsuitable)) for concept in self.concepts]
            for _, unsuitable in chances
        ]


def prepared(image: Image.Image) -> Float32[np.ndarray, "224 224 3"]:
    """A picture as the network was trained on it: blue, green, red, means taken off, in 0 to 255.

    >>> prepared(Image.new("RGB", (9, 7), (120, 120, 120)))[0, 0].tolist()
    [16.0, 3.0, -3.0]
    """
    squeezed = image.resize((SQUEEZED, SQUEEZED), Image.Resampling.BILINEAR)
    with io.BytesIO() as stored:
        squeezed.save(stored, format="JPEG")
        read = np.asarray(Image.open(stored), dtype=np.float32)
    edge = (SQUEEZED - CUT) // 2
    middle = read[edge : edge + CUT, edge : edge + CUT]
    return np.ascontiguousarray(middle[:, :, ::-1] - MEAN_BLUE_GREEN_RED)
