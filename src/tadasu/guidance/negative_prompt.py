"""Negative prompting: the concept's text takes the place of the empty text.

The practice comes from the AUTOMATIC1111 web interface (2022). It needs no third prediction and is
the cheapest baseline that a safety method must beat. With ε_n the concept's prediction,

    ε̂ = ε_n + s_g (ε_p - ε_n)

which equals negated classifier-free guidance with weight s_g - 1. Known weakness: it acts only
after the object has begun to appear (Ban et al. 2024, arXiv 2406.02965), and adversarial prompts
pass it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class NegativePrompt(Rule[None]):
    """Put the concepts where the empty text was. It has no parameters.

    A strength between 0 and 1 moves only part of the way from the empty text to the concept, and
    then needs a third prediction; at 1 it costs nothing.
    """

    replaces_unconditional: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """One prediction for all concepts of an image."""
        return "merged"

    def start(self, start: Start) -> None:
        """Nothing is carried from step to step."""

    def step(
        self, predictions: Predictions, step: Step, state: None
    ) -> tuple[Float[Tensor, "batch channel *space"], None]:
        """ε_n + s_g(ε_p - ε_n), with ε_n moved towards ε_u where the strength is below 1."""
        weight = predictions.per_image(predictions.weights[0])
        unconditional = predictions.unconditional
        base = unconditional + weight * (predictions.concepts[0] - unconditional)
        return base + step.guidance_scale * (predictions.prompt - base), None
