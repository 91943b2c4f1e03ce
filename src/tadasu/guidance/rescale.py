"""Guidance rescale: Lin et al., WACV 2024, arXiv 2305.08891, equations 15 and 16.

A quality rule: guidance makes the prediction's standard deviation grow, which overexposes the
picture; this brings it back to the prompt prediction's. It runs after every other rule. Pipelines
that have ``guidance_rescale`` do the same; this works on those that have not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class GuidanceRescale(Rule[None]):
    """Bring the guided prediction's standard deviation back to the prompt's.

    Attributes:
        amount: φ; 0 changes nothing, 1 rescales fully; the paper uses 0.7.
    """

    amount: float = 0.7

    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"amount": (0.0, 1.0)}
    quality: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Nothing beside the pipeline's own predictions."""
        return "nothing"

    def start(self, start: Start) -> None:
        """Nothing is carried from step to step."""

    def step(
        self, predictions: Predictions, step: Step, state: None
    ) -> tuple[Float[Tensor, "batch channel *space"], None]:
        """φ · rescaled + (1 - φ) · guided."""
        guided = predictions.cfg(step.guidance_scale)
        wanted = predictions.prompt.flatten(1).std(1)
        factor = wanted / guided.flatten(1).std(1).clamp(min=1e-20)
        return predictions.per_image(self.amount * factor + 1 - self.amount) * guided, None
