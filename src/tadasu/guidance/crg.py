"""Concept Removal Guidance: Choi et al., ICML 2026, arXiv 2606.29801.

We could not read the paper; the formulas come from a third party's implementation, so take the
constants with care. The evidence that the *prompt* carries the concept is how much nearer ε_p lies
to the concept's prediction than to the unconditional one, and the push is sized to cancel it:

    b   = ‖ε_p - ε_u‖² - ‖ε_p - ε_n‖²
    CP  = ½ b + mean of b over the steps of the schedule seen so far
    ω   = max(0, CP - τ ‖ε_n - ε_u‖²) / ‖ε_n - ε_u‖²
    ε_p ← ε_p - λ₀ ω (ε_n - ε_u)

It reacts to the prompt itself, needs no noise from the sampler, and stays off for prompts that have
nothing to do with the concept. Departures: all steps have the same weight, the threshold τ is
relative to the concept's own size so that it transfers between latents, and the corrected ε_p goes
through the pipeline's guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step, gap


@dataclass(frozen=True, kw_only=True)
class ConceptRemovalGuidance(Rule[Tensor]):
    """Take out of the prompt's prediction as much of each concept as the evidence finds there.

    Attributes:
        scale: λ₀; size of the correction.
        threshold: τ; evidence below it, relative to the concept's own size, changes nothing.
    """

    scale: float = 2.0
    threshold: float = 0.0

    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (0.0, 1e3),
        "threshold": (-10.0, 10.0),
    }

    @property
    def needs(self) -> Needs:
        """One prediction per concept."""
        return "each"

    def start(self, start: Start) -> Tensor:
        """No evidence yet: the sum of b per concept and image, relative to its size."""
        return torch.zeros_like(start.weights)

    def step(
        self, predictions: Predictions, step: Step, state: Tensor
    ) -> tuple[Float[Tensor, "batch channel *space"], Float[Tensor, "concepts batch"]]:
        """Plain guidance of the corrected prompt prediction, and the evidence so far."""
        axes = predictions.prompt.ndim - 1
        size = gap(predictions.concepts, predictions.unconditional, axes).clamp(min=1e-20)
        near = gap(predictions.prompt, predictions.unconditional, axes)
        far = gap(predictions.prompt[None], predictions.concepts, axes)
        presence = torch.where(predictions.evaluated, (near - far) / size, 0.0)
        seen = state + presence
        omega = (presence / 2 + seen / step.count - self.threshold).clamp(min=0)
        force = predictions.per_image(self.scale * predictions.weights * omega)
        push = (force * (predictions.concepts - predictions.unconditional)).sum(0)
        direction = predictions.prompt - push - predictions.unconditional
        return predictions.unconditional + step.guidance_scale * direction, seen
