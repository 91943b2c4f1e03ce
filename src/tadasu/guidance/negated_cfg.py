"""Negated classifier-free guidance: the concept with a minus sign.

The naive way to avoid a concept, and the one that Contrastive CFG (arXiv 2411.17077) and Dynamic
Negative Guidance (arXiv 2410.14398) set out to repair:

    ε̂ = ε_u + s_g(ε_p - ε_u) - s_g Σ_k w_k (ε_k - ε_u)

The push never fades, however far the image is from the concept, so it overshoots: images leave the
data. ``bench/gaussians`` shows it. It is here as the yardstick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class NegatedCFG(Rule[None]):
    """Push away from every concept with a constant force.

    Attributes:
        scale: force as a multiple of the guidance scale; 1 is the usual form, 0 does nothing.
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
        """Plain guidance minus the sum of the concepts' directions."""
        directions = predictions.concepts - predictions.unconditional
        push = (predictions.per_image(predictions.weights) * directions).sum(0)
        force = self.scale * step.guidance_scale
        return predictions.cfg(step.guidance_scale) - force * push, None
