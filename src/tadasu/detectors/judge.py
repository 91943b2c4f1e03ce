"""Concepts by an image classifier whose labels are names of things.

A concept of the policy is looked for among the classifier's labels by its id and its names in
every language ("weapons" with the names pistol and bomb), and by the judge's card. Its score is
the probability that any of these labels is there: with a multi-label classifier the largest of
its labels' probabilities, with a classifier of one label a picture their sum.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image
from scipy.special import expit, softmax

from tadasu.concepts import Concept
from tadasu.detectors.card import JudgeCard
from tadasu.detectors.detector import check_images, measured
from tadasu.errors import BadInput
from tadasu.records import Score

if TYPE_CHECKING:
    from jaxtyping import Float


class ImageClassifier(Protocol):
    """A network that gives one logit for each of its labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the logits."""
        ...

    @property
    def multi_label(self) -> bool:
        """Whether several labels can be true of one picture (sigmoid) or just one (softmax)."""
        ...

    def logits(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "image label"]:
        """One row of logits for each RGB picture."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores concepts by a classifier's labels.

    Args:
        network: the classifier.
        looked_for: the concepts; those without any label are unscored, with the reason.
        card: temperature, thresholds and further labels, usually read from ``judge.json``.

    Raises:
        BadInput: no concept was given, or the card names a label that the classifier lacks.
    """

    network: ImageClassifier
    looked_for: tuple[Concept, ...]
    card: JudgeCard = field(default_factory=JudgeCard)

    name = "judge"
    unit = "probability"

    def __post_init__(self) -> None:
        """Find the labels at once, so that a wrong card shows before the first picture."""
        if not self.looked_for:
            raise BadInput("The judge needs at least one concept to look for.")
        known = {plain(label) for label in self.network.labels}
        for concept in self.looked_for:
            lost = [x for x in self.card.labels.get(concept.id, ()) if plain(x) not in known]
            if lost:
                raise BadInput(
                    f"The judge's card gives {concept.id!r} labels that the judge does not have: "
                    f"{', '.join(lost)}."
                )

    @property
    def concepts(self) -> tuple[str, ...]:
        """The ids of the concepts that are looked for."""
        return tuple(concept.id for concept in self.looked_for)

    @cached_property
    def columns(self) -> dict[str, tuple[int, ...]]:
        """For each concept the places of its labels among the classifier's labels."""
        labels = [plain(label) for label in self.network.labels]
        found: dict[str, tuple[int, ...]] = {}
        for concept in self.looked_for:
            words = {plain(word) for word in self._words(concept)}
            found[concept.id] = tuple(i for i, label in enumerate(labels) if label in words)
        return found

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        """The probability of each concept in each picture.

        Raises:
            BadInput: something in the list is not an RGB picture.
        """
        check_images(images)
        if not images:
            return []
        logits = np.asarray(self.network.logits(images), dtype=np.float64) / self.card.temperature
        return [[self._scored(row, concept) for concept in self.concepts] for row in logits]

    def _scored(self, logits: Float[np.ndarray, " label"], concept: str) -> Score:
        columns = list(self.columns[concept])
        if not columns:
            reason = "none of the judge's labels is a name of this concept"
            return Score.unscored(self.name, concept, self.unit, reason)
        if not np.all(np.isfinite(logits)):
            return measured(self, concept, float("nan"))
        if self.network.multi_label:
            chances = expit(logits)[columns]
            value = float(chances.max())
        else:
            chances = softmax(logits)[columns]
            value = min(float(chances.sum()), 1.0)
        return measured(self, concept, value, self.network.labels[columns[int(chances.argmax())]])

    def _words(self, concept: Concept) -> list[str]:
        named = [name for names in concept.names.values() for name in names]
        return [concept.id, *named, *self.card.labels.get(concept.id, ())]


def plain(label: str) -> str:
    """A label as names are compared: width, case, hyphens and spacing do not count.

    >>> plain("Bow_and-ARROW  ") == plain("bow and arrow")
    True
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    return " ".join(text.replace("_", " ").replace("-", " ").split())
