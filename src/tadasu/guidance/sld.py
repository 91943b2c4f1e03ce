"""Safe Latent Diffusion: Schramowski et al., CVPR 2023, arXiv 2211.05105, equations 3 to 8.

At each element of the latent where the prompt's prediction leans towards the unsafe concept, the
prediction is pushed away from that concept, with momentum.

Where paper and published code disagree we follow the code:

- Equation 6 prints ``max(1, |φ|)``; the authors' repository and diffusers clamp to at most 1.
- ``weak`` has s_S = 200 in the paper and the model card, 20 in diffusers' ``SafetyConfig.WEAK``.
  The preset ``weak`` is the paper's, ``weak_diffusers`` the other one.

Our departure: the warm-up is a fraction of the schedule. The published 15, 10, 7 and 0 steps of 50
become 0.30, 0.20, 0.14 and 0, so that the rule also acts in a run of ten steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step, nowhere

#: ν, the momentum of the safety guidance, one value per latent element.
Momentum = Float[Tensor, "batch channel *space"]


@dataclass(frozen=True, kw_only=True)
class SafeLatentDiffusion(Rule[Tensor]):
    """Push each latent element away from the concepts where the prompt leans towards them.

    The defaults are the preset ``medium``.

    Attributes:
        scale: s_S; how fast the push saturates with |ε_p - ε_S|. Above about 200 nearly every
            element that passes the threshold is pushed fully.
        threshold: λ; elements with ε_p - ε_S below it are pushed. 0 pushes only where the prompt
            lies on the concept's side; 1 pushes nearly everywhere.
        warmup: δ; fraction of the schedule before the push is applied. Momentum builds up before.
        momentum: s_m; share of the momentum that is added at each step; 0 turns momentum off.
        decay: β_m; share of the old momentum that is kept.
    """

    scale: float = 1000.0
    threshold: float = 0.01
    warmup: float = 0.2
    momentum: float = 0.3
    decay: float = 0.4

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "weak": dict(scale=200, threshold=0.0, warmup=0.3, momentum=0.0, decay=0.0),
        "weak_diffusers": dict(scale=20, threshold=0.0, warmup=0.3, momentum=0.0, decay=0.0),
        "medium": dict(scale=1000, threshold=0.01, warmup=0.2, momentum=0.3, decay=0.4),
        "strong": dict(scale=2000, threshold=0.025, warmup=0.14, momentum=0.5, decay=0.7),
        "max": dict(scale=5000, threshold=1.0, warmup=0.0, momentum=0.5, decay=0.7),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (0.0, 1e6),
        "threshold": (-10.0, 10.0),
        "warmup": (0.0, 1.0),
        "momentum": (0.0, 1.0),
        "decay": (0.0, 1.0),
    }

    @property
    def needs(self) -> Needs:
        """One prediction for all concepts of an image."""
        return "merged"

    def start(self, start: Start) -> Tensor:
        """Momentum is zero at first."""
        return torch.zeros_like(start.latents)

    def wants(
        self, step: Step, state: Tensor, weights: Float[Tensor, "concepts batch"]
    ) -> Bool[Tensor, "concepts batch"]:
        """Warm-up needs the concept only if momentum will use it."""
        idle = self.momentum == 0 and not step.begins_at(self.warmup)
        return nowhere(weights) if idle else weights != 0

    def step(
        self, predictions: Predictions, step: Step, state: Tensor
    ) -> tuple[Float[Tensor, "batch channel *space"], Momentum]:
        """ε_u + s_g(ε_p - ε_u - γ) after warm-up, and the new momentum."""
        unconditional, prompt = predictions.unconditional, predictions.prompt
        concept = predictions.concepts[0]
        lean = prompt - concept
        mu = torch.where(lean >= self.threshold, 0.0, (lean.abs() * self.scale).clamp(max=1.0))
        gamma = mu * (concept - unconditional)  # eq. 4, with μ from eq. 6
        gamma = gamma + self.momentum * state  # eq. 7
        carried = self.decay * state + (1 - self.decay) * gamma  # eq. 8
        direction = prompt - unconditional
        if step.begins_at(self.warmup):
            strength = predictions.per_image(predictions.weights[0])
            direction = direction - strength * gamma  # eq. 3
        return unconditional + step.guidance_scale * direction, carried
