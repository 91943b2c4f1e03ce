"""Semantic Guidance: Brack et al., NeurIPS 2023, arXiv 2301.12247.

The same authors use it for mitigation in arXiv 2305.18398, whose settings are our presets.
For each concept the largest differences to the unconditional prediction, taken per image and
channel, are added or (for mitigation) subtracted. The term stands outside the guidance bracket, so
its numbers do not compare to SLD's, which are multiplied by s_g.

We follow diffusers' ``SemanticStableDiffusionPipeline``: ``threshold`` is the fraction that is
discarded, and momentum builds up during warm-up. Our departure: warm-up and cool-down are
fractions of the schedule instead of steps of 50.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step, nowhere


@dataclass(frozen=True, kw_only=True)
class SemanticGuidance(Rule[Tensor]):
    """Subtract the strongest part of each concept's direction from the guided prediction.

    The defaults are the preset ``strong``, which the authors use in their evaluation.

    Attributes:
        scale: s_e; size of the correction, not multiplied by the guidance scale.
        threshold: λ; fraction of each channel's elements that is left alone; 0.9 changes the
            strongest tenth.
        warmup: fraction of the schedule before the correction is applied.
        cooldown: fraction of the schedule after which nothing new is added; 1 means never.
        momentum: s_m; share of the momentum that is added at each step.
        decay: β_m; share of the old momentum that is kept.
        reverse: True moves away from the concepts, False towards them.
        joined: True takes all concepts of an image as one text, as the authors do; False takes one
            prediction per concept.
    """

    scale: float = 7.0
    threshold: float = 0.85
    warmup: float = 0.1
    cooldown: float = 1.0
    momentum: float = 0.5
    decay: float = 0.4
    reverse: bool = True
    joined: bool = True

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "medium": dict(scale=4, threshold=0.9, warmup=0.2, momentum=0.3),
        "strong": dict(scale=7, threshold=0.85, warmup=0.1, momentum=0.5),
        "max": dict(scale=10, threshold=0.75, warmup=0.0, momentum=0.5),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (0.0, 1e6),
        "threshold": (0.0, 1.0),
        "warmup": (0.0, 1.0),
        "cooldown": (0.0, 1.0),
        "momentum": (0.0, 1.0),
        "decay": (0.0, 1.0),
    }

    @property
    def needs(self) -> Needs:
        """One prediction for all concepts, or one for each."""
        return "merged" if self.joined else "each"

    def start(self, start: Start) -> Tensor:
        """Momentum is zero at first."""
        return torch.zeros_like(start.latents)

    def _over(self, step: Step) -> bool:
        return self.cooldown < 1 and step.begins_at(self.cooldown)

    def wants(
        self, step: Step, state: Tensor, weights: Float[Tensor, "concepts batch"]
    ) -> Bool[Tensor, "concepts batch"]:
        """Nothing after cool-down, and nothing in a warm-up without momentum."""
        early = self.momentum == 0 and not step.begins_at(self.warmup)
        return nowhere(weights) if early or self._over(step) else weights != 0

    def step(
        self, predictions: Predictions, step: Step, state: Tensor
    ) -> tuple[Float[Tensor, "batch channel *space"], Float[Tensor, "batch channel *space"]]:
        """ε_u + s_g(ε_p - ε_u) + γ after warm-up, and the new momentum."""
        sign = -1.0 if self.reverse else 1.0
        psi = sign * self.scale * (predictions.concepts - predictions.unconditional)
        size = psi.abs().flatten(3)
        cut = torch.quantile(size, self.threshold, dim=3, keepdim=True)
        kept = torch.where(size >= cut, psi.flatten(3), 0.0).reshape(psi.shape)
        gamma = (predictions.per_image(predictions.weights) * kept).sum(0)
        if self._over(step):
            gamma = torch.zeros_like(gamma)
        gamma = gamma + self.momentum * state
        carried = self.decay * state + (1 - self.decay) * gamma
        guided = predictions.cfg(step.guidance_scale)
        if step.begins_at(self.warmup):
            guided = guided + gamma
        return guided, carried
