"""Adaptive Projected Guidance: Sadat, Hilliges and Weber, ICLR 2025, arXiv 2410.02416.

A quality rule: large guidance scales oversaturate because of the part of Δ = ε_p - ε_u that is
parallel to the prediction itself. APG damps that part, limits Δ's length, and reverses some of the
direction that was already taken. It is no mitigation; it repairs what guidance (and a mitigation
before it) does to the picture, so it runs after every other rule.

    Δ ← Δ + β Δ_before,   Δ ← Δ · min(1, r / ‖Δ‖),   ε̂ = ε_p + (s_g - 1)(Δ_⊥ + η Δ_∥)

The projection is on ε_p in ε-space; the paper projects in the space of clean images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class AdaptiveProjectedGuidance(Rule[Tensor]):
    """Keep guidance from oversaturating the picture.

    Attributes:
        eta: η; share of the parallel part that is kept; 1 keeps plain guidance.
        radius: r; largest length of Δ per square root of the latent's size; 0 sets no limit.
        momentum: β; negative values push back from the directions of earlier steps; 0 is off.
    """

    eta: float = 0.0
    radius: float = 0.0
    momentum: float = 0.0

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "published": dict(eta=0.0, radius=15 / 128, momentum=-0.5),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "eta": (0.0, 10.0),
        "radius": (0.0, 1e3),
        "momentum": (-0.99, 0.99),
    }
    quality: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Nothing beside the pipeline's own predictions."""
        return "nothing"

    def start(self, start: Start) -> Tensor:
        """No direction was taken yet."""
        return torch.zeros_like(start.latents)

    def step(
        self, predictions: Predictions, step: Step, state: Tensor
    ) -> tuple[Float[Tensor, "batch channel *space"], Float[Tensor, "batch channel *space"]]:
        """The guided prediction with a damped parallel part, and the direction taken."""
        prompt = predictions.prompt
        carried = prompt - predictions.unconditional + self.momentum * state
        direction = carried
        if self.radius > 0:
            limit = self.radius * math.sqrt(math.prod(direction.shape[1:]))
            length = direction.flatten(1).norm(dim=1).clamp(min=1e-20)
            direction = predictions.per_image((limit / length).clamp(max=1)) * direction
        inner = (direction * prompt).flatten(1).sum(1)
        size = prompt.pow(2).flatten(1).sum(1).clamp(min=1e-20)
        parallel = predictions.per_image(inner / size) * prompt
        kept = direction - (1 - self.eta) * parallel
        return prompt + (step.guidance_scale - 1) * kept, carried
