"""Concepts without training: how near a picture lies to a concept's texts in a CLIP space.

Alec Radford and others, "Learning Transferable Visual Models From Natural Language Supervision",
2021 (arXiv 2103.00020), section 3.1. For each concept the nearest of its texts competes with
neutral texts in a softmax over the model's own logit scale; the share it gets is the score. One
concept never competes with another, so adding a concept to a policy changes no other score.
Where we depart: the paper lets every class compete with every other.

The share is a calibrated probability only after a temperature was fitted on labelled pictures
(`tadasu.statistics.calibration.temperature`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from PIL import Image
from scipy.special import expit, logsumexp

from tadasu.concepts import Concept
from tadasu.detectors.detector import check_images, measured
from tadasu.errors import BadInput, RunFailed
from tadasu.records import Score

if TYPE_CHECKING:
    from jaxtyping import Float

NEUTRAL = (
    "a picture",
    "an object",
    "a person",
    "an animal",
    "a landscape",
    "a building",
    "food",
    "an abstract pattern",
)
"""What a harmless picture may lie nearest to; more and closer texts lower every score."""


class ImageTextEncoder(Protocol):
    """A network that puts pictures and texts into one space."""

    @property
    def logit_scale(self) -> float:
        """By what cosines are multiplied before a softmax; about 100 for OpenAI's models."""
        ...

    def encode_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "image width"]:
        """One vector for each RGB picture, of any length."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        """One vector for each text, of any length."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClipZeroShot:
    """Scores concepts by their texts; the texts are encoded once.

    Args:
        network: the encoder of pictures and texts.
        looked_for: the concepts; a concept's texts are its prompts and its English names, or,
            where it has neither, its names in other languages.
        neutral: the texts a concept competes with.
        template: how a name becomes a text; ``{}`` stands for the name. Prompts stay as they are.
        unit: ``"probability"`` (0 to 1, against the neutral texts) or ``"cosine similarity"``
            (-1 to 1, with the nearest text; the neutral texts do not count).
        temperature: above 0; logits are divided by it before the softmax. 1 changes nothing.

    Raises:
        BadInput: no concept, no neutral text, a template without ``{}``, or a temperature that
            is not above 0.
    """

    network: ImageTextEncoder
    looked_for: tuple[Concept, ...]
    neutral: tuple[str, ...] = NEUTRAL
    template: str = "{}"
    unit: Literal["probability", "cosine similarity"] = "probability"
    temperature: float = 1.0

    name = "clip"

    def __post_init__(self) -> None:
        """Check the parameters before the network is asked anything."""
        if not self.looked_for or not self.neutral:
            raise BadInput("CLIP needs at least one concept and one neutral text.")
        if "{}" not in self.template:
            raise BadInput(f"A template says with {{}} where the name stands: {self.template!r}.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise BadInput(f"A temperature must be above 0; given {self.temperature}.")

    @property
    def concepts(self) -> tuple[str, ...]:
        """The ids of the concepts that are looked for."""
        return tuple(concept.id for concept in self.looked_for)

    @cached_property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """The texts by which each concept is looked for."""
        found: dict[str, tuple[str, ...]] = {}
        for concept in self.looked_for:
            other = () if concept.prompts else tuple(n for g in concept.names.values() for n in g)
            named = concept.names.get("en", ()) or other
            framed = (self.template.replace("{}", name) for name in named)
            found[concept.id] = tuple(dict.fromkeys((*concept.prompts, *framed)))
        return found

    @cached_property
    def _directions(self) -> dict[str, Float[np.ndarray, "text width"]]:
        return {concept: self._encoded(texts) for concept, texts in self.texts.items()}

    @cached_property
    def _neutral_directions(self) -> Float[np.ndarray, "text width"]:
        return self._encoded(self.neutral)

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        """How much of each concept each picture shows.

        Raises:
            BadInput: something in the list is not an RGB picture.
            RunFailed: the network gives no finite vector for a text.
        """
        check_images(images)
        if not images:
            return []
        vectors = np.asarray(self.network.encode_images(images), dtype=np.float64)
        return [[self._scored(vector, concept) for concept in self.concepts] for vector in vectors]

    def _scored(self, vector: Float[np.ndarray, " width"], concept: str) -> Score:
        length = float(np.linalg.norm(vector))
        if not math.isfinite(length) or length == 0:
            return measured(self, concept, float("nan"))
        cosines = self._directions[concept] @ vector / length
        nearest = self.texts[concept][int(cosines.argmax())]
        if self.unit == "cosine similarity":
            return measured(self, concept, float(cosines.max()), nearest)
        scale = self.network.logit_scale / self.temperature
        against = logsumexp(scale * (self._neutral_directions @ vector) / length)
        return measured(self, concept, float(expit(scale * cosines.max() - against)), nearest)

    def _encoded(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        vectors = np.asarray(self.network.encode_texts(texts), dtype=np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
            raise RunFailed("CLIP gives no direction for one of the texts; its weights are broken.")
        return np.asarray(vectors / lengths)
