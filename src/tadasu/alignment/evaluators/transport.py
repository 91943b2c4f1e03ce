"""Looks for unsafe things patch by patch, with optimal transport from patches to texts.

GuardAlign (arXiv 2602.24027) reports that the cosine of the whole picture overlaps for safe and
unsafe pictures where patchwise optimal transport separates them, because a small unsafe thing
drowns in a large harmless picture. That paper's formula could not be read; this is our own
construction of the idea. Patches that resemble one text much more than others carry more mass
(entropy weights, as in "AWT: Transferring Vision-Language Models via Augmentation, Weighting and
Transportation", arXiv 2407.04603), the texts of a concept share their mass equally, and the mass
is moved by entropic transport (Cuturi, 2013, arXiv 1306.0895, solved in logarithms). The score is
the mean cosine along the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.special import log_softmax, logsumexp

from tadasu.alignment.evaluators.cosine import UNIT, fits, normalised
from tadasu.alignment.evaluators.evaluator import scored
from tadasu.detectors.clip import NEUTRAL, ImageTextEncoder
from tadasu.errors import BadInput

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image

    from tadasu.records import Score


class PatchEncoder(ImageTextEncoder, Protocol):
    """A network that also puts the patches of a picture into the space of its texts."""

    def encode_patches(self, image: Image) -> Float[np.ndarray, "patch width"]:
        """One vector for each patch of an RGB picture."""
        ...


@dataclass(frozen=True, kw_only=True)
class PatchTransport:
    """How near the patches of a picture come to the texts of each concept.

    Args:
        network: the encoder of patches and texts.
        texts: by concept, the texts that say it.
        neutral: texts that harmless patches resemble; they only weigh the patches.
        sharpness: above 0; cosines are multiplied by it before patches are weighed.
        smoothing: above 0; the entropy of the plan. Small is near the exact plan.

    Raises:
        BadInput: no concept, a concept without a text, or a number that is not above 0.
    """

    network: PatchEncoder
    texts: Mapping[str, tuple[str, ...]]
    neutral: tuple[str, ...] = NEUTRAL
    sharpness: float = 50.0
    smoothing: float = 0.05

    name = "patch_transport"

    def __post_init__(self) -> None:
        """Refuse an evaluator that would look for nothing."""
        if not self.texts or not all(self.texts.values()) or not self.neutral:
            raise BadInput("An image evaluator needs at least one text for each concept.")
        if not (self.sharpness > 0 and self.smoothing > 0):
            raise BadInput("sharpness and smoothing must be above 0.")

    @cached_property
    def _directions(self) -> dict[str, Float[np.ndarray, "text width"]]:
        return {
            concept: normalised(self.network.encode_texts(texts))
            for concept, texts in self.texts.items()
        }

    @cached_property
    def _neutral(self) -> Float[np.ndarray, "text width"]:
        return normalised(self.network.encode_texts(self.neutral))

    def score(self, image: Image) -> list[Score]:
        """One score for each concept; its note says where the nearest patch lies."""
        patches = normalised(self.network.encode_patches(image))
        found = []
        for concept, directions in self._directions.items():
            cosines = patches @ directions.T
            log_mass = self._log_weights(np.hstack([cosines, patches @ self._neutral.T]))
            plan = transport(cosines, log_mass, smoothing=self.smoothing)
            where = int(cosines.max(axis=1).argmax())
            note = f"nearest at patch {where + 1} of {len(patches)}"
            found.append(scored(self.name, concept, float((plan * cosines).sum()), UNIT, note=note))
        return found

    def fits(self, image: Image, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """The cosine similarity of the whole picture with each text."""
        return fits(self.network, image, texts)

    def _log_weights(self, cosines: Float[np.ndarray, "patch text"]) -> Float[np.ndarray, " patch"]:
        """More mass for patches that are sure which text they resemble."""
        log_share = log_softmax(self.sharpness * cosines, axis=1)
        entropy = -(np.exp(log_share) * log_share).sum(axis=1)
        return np.asarray(log_softmax(-entropy))


def transport(
    cosines: Float[np.ndarray, "patch text"],
    log_mass: Float[np.ndarray, " patch"],
    *,
    smoothing: float,
    rounds: int = 200,
) -> Float[np.ndarray, "patch text"]:
    """The entropic plan that moves the patches' mass to the texts, equal mass for each text.

    Args:
        cosines: similarities; what is similar is near.
        log_mass: logarithms of the patches' mass, which sums to 1.
        smoothing: entropy of the plan.
        rounds: of alternating projections.

    Two patches, two texts, each patch lies at its own text: nearly all mass stays there.

    >>> plan = transport(np.eye(2), np.log([0.5, 0.5]), smoothing=0.05)
    >>> plan.round(3).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    kernel = cosines / smoothing  # a cost of 1 - cosine, up to a constant
    log_texts = np.full(cosines.shape[1], -np.log(cosines.shape[1]))
    columns = np.zeros(cosines.shape[1])
    rows = np.zeros(cosines.shape[0])
    for _ in range(rounds):
        rows = log_mass - logsumexp(kernel + columns, axis=1)
        columns = log_texts - logsumexp(kernel + rows[:, None], axis=0)
    return np.exp(kernel + rows[:, None] + columns)
