"""Perp-Neg: Armandpour et al. 2023, arXiv 2304.04968, the algorithm's guidance line.

Only the part of the concept's direction that is perpendicular to the prompt's is subtracted, so
that what prompt and concept share is kept:

    ε̂ = ε_u + s_g [ Δ_p - Σ_k w_k (Δ_k - ⟨Δ_k, Δ_p⟩ / ‖Δ_p‖² · Δ_p) ],   Δ = ε - ε_u

The protection is total where it should not be: for a prompt that *is* the concept the perpendicular
part is zero and nothing happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class PerpendicularNegative(Rule[None]):
    """Subtract what a concept adds beside the prompt.

    Attributes:
        scale: weight of the perpendicular part inside the guidance bracket; the paper uses 1 to
            1.5.
    """

    scale: float = 1.0

    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"scale": (0.0, 1e3)}

    @property
    def needs(self) -> Needs:
        """One prediction per concept."""
        return "each"

    def start(self, start: Start) -> None:
        """Nothing is carried from step to step."""

    def step(
        self, predictions: Predictions, step: Step, state: None
    ) -> tuple[Float[Tensor, "batch channel *space"], None]:
        """Plain guidance minus the perpendicular parts."""
        prompt = predictions.prompt - predictions.unconditional
        concepts = predictions.concepts - predictions.unconditional
        inner = (concepts * prompt).flatten(2).sum(-1)
        length = prompt.pow(2).flatten(1).sum(-1).clamp(min=1e-20)
        shared = predictions.per_image(inner / length) * prompt
        push = (predictions.per_image(predictions.weights) * (concepts - shared)).sum(0)
        direction = prompt - self.scale * push
        return predictions.unconditional + step.guidance_scale * direction, None
