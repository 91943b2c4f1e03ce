"""The contract of a picture detector: pictures in, for each of them one score a concept.

"Could not tell" is a score in the state ``unscored``, never 0: whoever decides holds the picture
back. So a detector that raises, that answers too little or whose network returns something that
is no number can never let a picture through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from tadasu.errors import BadInput
from tadasu.records import Score


@runtime_checkable
class Detector(Protocol):
    """Scores pictures. A picture's scores must not depend on which others are in its batch."""

    @property
    def name(self) -> str:
        """The public name, which is the name of its file."""
        ...

    @property
    def unit(self) -> str:
        """What its values count, for example ``"probability"``."""
        ...

    @property
    def concepts(self) -> tuple[str, ...]:
        """The ids of the concepts it answers for, in the order of its scores."""
        ...

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        """Scores RGB pictures.

        Args:
            images: pictures in RGB, of any sizes.

        Returns:
            For each picture one score a concept, in the order of `concepts`.

        Raises:
            BadInput: something in the list is not an RGB picture.
        """
        ...


#: How the note of a score begins when the detector broke off.
FAILED = "failed: "


def measured(detector: Detector, concept: str, value: float, note: str = "") -> Score:
    """A network's number as a score; unscored when it is no number.

    Args:
        detector: who measured.
        concept: what was looked for.
        value: what the network gave, in the detector's unit.
        note: what the reader should know.
    """
    if not math.isfinite(value):
        said = f"the network gave {value}, which is no score"
        return Score.unscored(detector.name, concept, detector.unit, said)
    return Score(
        detector=detector.name, concept=concept, value=float(value), unit=detector.unit, note=note
    )


def examine(
    detector: Detector, images: Sequence[Image.Image], *, batch_size: int = 16
) -> list[list[Score]]:
    """Scores any number of pictures and always answers for all of them.

    A batch in which the detector fails, for example for want of memory, is tried again by halves; a
    picture on which it fails alone is unscored, with the failure as the note (see `failed`).

    Args:
        detector: who scores.
        images: pictures in RGB, of any sizes.
        batch_size: how many pictures the detector sees at once.

    Returns:
        For each picture one score a concept, in the order of the detector's `concepts`.

    Raises:
        BadInput: something in the list is not an RGB picture, or the batch size is below 1.
    """
    if batch_size < 1:
        raise BadInput(f"The batch size must be at least 1; given {batch_size}.")
    check_images(images)
    answers: list[list[Score]] = []
    for start in range(0, len(images), batch_size):
        answers.extend(_examine_batch(detector, images[start : start + batch_size]))
    return answers


def check_images(images: Sequence[Image.Image]) -> None:
    """Refuses whatever is not an RGB picture with at least one pixel.

    Raises:
        BadInput: says which item of the list it is, and what it is.
    """
    for place, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise BadInput(f"Item {place} is a {type(image).__name__}, not a PIL picture.")
        if image.mode != "RGB" or 0 in image.size:
            raise BadInput(
                f"Picture {place} is {image.mode} of {image.width} x {image.height} pixels; "
                "detectors take RGB. Open files with tadasu.detectors.images.read_image."
            )


def failed(score: Score) -> bool:
    """Whether a score is missing because the detector broke off, so that it is worth asking again.

    A detector that looked and could not tell would say the same again.
    """
    return score.value is None and score.note.startswith(FAILED)


def _examine_batch(detector: Detector, images: Sequence[Image.Image]) -> list[list[Score]]:
    try:
        answers = detector.score(images)
    except Exception as error:  # whatever goes wrong holds the pictures back; nothing is hidden
        note = f"{FAILED}{type(error).__name__}: {error}"
        answers = _unscored(detector, len(images), note) if len(images) == 1 else []
    if not answers and len(images) > 1:  # outside the except: what the failure held is free again
        half = len(images) // 2
        return [
            row for part in (images[:half], images[half:]) for row in _examine_batch(detector, part)
        ]
    if [[score.concept for score in row] for row in answers] != [list(detector.concepts)] * len(
        images
    ):
        return _unscored(detector, len(images), "did not answer once for each picture and concept")
    return answers


def _unscored(detector: Detector, count: int, note: str) -> list[list[Score]]:
    row = [
        Score.unscored(detector.name, concept, detector.unit, note) for concept in detector.concepts
    ]
    return [list(row) for _ in range(count)]
