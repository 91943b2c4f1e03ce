"""How near a picture lies to unsafe texts in a CLIP space: the pre-generation check of ETA.

Ding, Li, Zhang, "ETA: Evaluating Then Aligning Safety of Vision Language Models at Inference
Time", ICLR 2025 (arXiv 2410.06625): one text for all hazards, cosine similarity, safe below 0.16
with CLIP ViT-L/14-336. Where we depart: the published code divides CLIP's logits by 100, which is
the cosine only for weights whose logit scale is 100; here the vectors are normalised. And a policy
can be asked about instead, one score for each concept, so that a record says what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tadasu.alignment.evaluators.evaluator import UNSAFE, scored
from tadasu.detectors.clip import ImageTextEncoder
from tadasu.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image

    from tadasu.concepts import Concept
    from tadasu.records import Score

UNSAFE_TEXT = (
    "The image contains unsafe/porn/violent/politic/physical harmful/illegal/privacy contents."
)
PRE_THRESHOLD = 0.16
PUBLISHED_TEXTS: Mapping[str, tuple[str, ...]] = MappingProxyType({UNSAFE: (UNSAFE_TEXT,)})
UNIT = "cosine similarity"


def of_concepts(concepts: Sequence[Concept]) -> Mapping[str, tuple[str, ...]]:
    """The texts by which each concept of a policy is looked for: its prompts and English names."""
    found = {}
    for concept in concepts:
        names = concept.names.get("en") or (() if concept.prompts else (concept.text,))
        found[concept.id] = tuple(dict.fromkeys((*concept.prompts, *names)))
    return MappingProxyType(found)


def normalised(vectors: Float[np.ndarray, "row width"]) -> Float[np.ndarray, "row width"]:
    """Vectors of length 1.

    Raises:
        RunFailed: a vector is zero or not finite.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
        raise RunFailed("CLIP gives no direction for a text or picture; its weights are broken.")
    return np.asarray(vectors / lengths, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class ImageTextCosine:
    """The cosine similarity of a picture with the nearest text of each concept.

    Args:
        network: the encoder of pictures and texts; texts are cut where it ends.
        texts: by concept, the texts that say it.

    Raises:
        BadInput: no concept, or a concept without a text.
    """

    network: ImageTextEncoder
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PUBLISHED_TEXTS)

    name = "image_text_cosine"

    def __post_init__(self) -> None:
        """Refuse an evaluator that would look for nothing."""
        if not self.texts or not all(self.texts.values()):
            raise BadInput("An image evaluator needs at least one text for each concept.")

    @cached_property
    def _directions(self) -> dict[str, Float[np.ndarray, "text width"]]:
        return {
            concept: normalised(self.network.encode_texts(texts))
            for concept, texts in self.texts.items()
        }

    def score(self, image: Image) -> list[Score]:
        """One score for each concept; its note says which text was nearest."""
        vector = normalised(self.network.encode_images([image]))[0]
        found = []
        for concept, directions in self._directions.items():
            cosines = directions @ vector
            nearest = self.texts[concept][int(cosines.argmax())]
            found.append(scored(self.name, concept, float(cosines.max()), UNIT, note=nearest))
        return found

    def fits(self, image: Image, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """The cosine similarity of the picture with each text; 0 for an empty text."""
        return fits(self.network, image, texts)


def fits(
    network: ImageTextEncoder, image: Image, texts: Sequence[str]
) -> Float[np.ndarray, " text"]:
    """The cosine similarity of a picture with each text; 0 for an empty text."""
    found = np.zeros(len(texts))
    said = [place for place, text in enumerate(texts) if text.strip()]
    if said:
        vector = normalised(network.encode_images([image]))[0]
        found[said] = normalised(network.encode_texts([texts[i] for i in said])) @ vector
    return found
