"""SAFREE: Yoon et al., ICLR 2025, arXiv 2410.12761; the text side of the method.

No prediction is added and nothing is trained: tokens of the prompt that lead towards the concepts
are projected before the denoiser reads them.

- z_i, the distance of the prompt without token i to the space that the concepts span. Leaving out a
  toxic token brings the prompt farther away from that space: token i is toxic if z_i exceeds
  (1 + α) times the mean of the other z (eq. 3).
- A toxic token's state e becomes (I - P_C) P_I e, with P_C and P_I the projections on the space of
  the concepts and on the space of the prompt's own masked versions (eq. 4; the order is that of the
  published code, so nothing of the concepts is left in the row).
- Self-validation: the new states are used only in the first steps, the more of them the more the
  projection of all the prompt's rows changed them: β = 1 - mean cosine, and of 50 steps the first
  1 + round(10 · sigmoid(50 β - 26.665)) (published code; 10 of 50 is γ = 0.2).

The preset ``published`` gives the published code's numbers (``tests/guidance/recorded``).

Departures of the default: a token is masked by leaving it out instead of writing token 0, which in
CLIP is the word "!" and in other vocabularies another. Of both: numbers of steps are shares of the
schedule; the re-attention of latents in the Fourier domain is not part of this rule,
because it needs the original prompt's inner features at every step, a third row, and a patch for
each network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step

#: Steps of the schedule for which the published code counts its steps.
PUBLISHED_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Safree(Rule[None]):
    """Project the prompt's toxic tokens away from the concepts.

    Attributes:
        alpha: α; how much a token's distance must stand out from the others'.
        gamma: γ; largest share of the schedule that uses the new states.
        validate: True limits the share by self-validation, False uses the new states always.
        masking: ``delete`` leaves a token out, ``zero`` writes token 0 in its place.
    """

    alpha: float = 0.01
    gamma: float = 0.2
    validate: bool = True
    masking: Literal["delete", "zero"] = "delete"

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "published": dict(masking="zero"),
        "whole": dict(validate=False),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (-1.0, 10.0),
        "gamma": (0.0, 2.0),
    }

    @property
    def needs(self) -> Needs:
        """The text encoder's states instead of predictions."""
        return "context"

    def start(self, start: Start) -> None:
        """Nothing is carried from step to step."""

    def step(
        self, predictions: Predictions, step: Step, state: None
    ) -> tuple[Float[Tensor, "batch channel *space"], None]:
        """Predictions stay as they are; all happens in `project`."""
        return predictions.cfg(step.guidance_scale), None

    def toxic(
        self, masked: Float[Tensor, "token width"], concepts: Float[Tensor, "concept width"]
    ) -> Bool[Tensor, " token"]:
        """Which tokens lead towards the concepts.

        Args:
            masked: pooled embedding of the prompt without token i.
            concepts: pooled embedding of each concept.
        """
        count = len(masked)
        if count < 2:
            return torch.ones(count, dtype=torch.bool, device=masked.device)
        away = (masked - _onto(concepts, masked)).norm(dim=1)
        others = (away.sum() - away) / (count - 1)
        found: Tensor = away >= (1 + self.alpha) * others
        return found

    def project(
        self,
        states: Float[Tensor, "token width"],
        masked: Float[Tensor, "token width"],
        concepts: Float[Tensor, "concept width"],
    ) -> Float[Tensor, "token width"]:
        """The token states that replace the prompt's.

        Args:
            states: the states of the prompt's own tokens, without begin, end and padding.
            masked: pooled embedding of the prompt without token i.
            concepts: pooled embedding of each concept.
        """
        safe = removed(states, masked, concepts)
        return torch.where(self.toxic(masked, concepts)[:, None], safe, states)

    def share(
        self,
        states: Float[Tensor, "token width"],
        masked: Float[Tensor, "own width"],
        concepts: Float[Tensor, "concept width"],
    ) -> float:
        """Share of the schedule that uses the new states.

        Args:
            states: the prompt's states from the start token to the end token.
            masked: pooled embedding of the prompt without token i.
            concepts: pooled embedding of each concept.
        """
        if not self.validate:
            return 1.0
        safe = removed(states, masked, concepts)
        return self.share_of(1 - float(torch.cosine_similarity(safe, states).mean()))

    def share_of(self, change: float) -> float:
        """Share of the schedule for a mean change β of the prompt's rows."""
        rise = 1 / (1 + math.exp(-(50 * change - 26.665)))
        return min(1.0, (1 + round(self.gamma * PUBLISHED_STEPS * rise)) / PUBLISHED_STEPS)


def removed(
    states: Float[Tensor, "token width"],
    masked: Float[Tensor, "own width"],
    concepts: Float[Tensor, "concept width"],
) -> Float[Tensor, "token width"]:
    """States as the prompt's own versions span them, without what the concepts span (eq. 4)."""
    own = _onto(masked, states)
    return own - _onto(concepts, own)


def _onto(basis: Tensor, vectors: Tensor) -> Tensor:
    """Vectors projected on the space that the rows of a basis span."""
    _, singular, directions = torch.linalg.svd(basis, full_matrices=False)
    kept = directions[singular > 1e-5 * singular.max().clamp(min=1e-20)]
    projected: Tensor = vectors @ kept.T @ kept
    return projected
