"""Normalized Attention Guidance: Chen et al., NeurIPS 2025, arXiv 2505.21179.

Guidance-distilled and few-step models run without an unconditional prediction, so there is nothing
to steer from. NAG steers inside the attention layers instead: with Z₊ and Z₋ the attention outputs
for the prompt and for the concept under the same queries,

    Z̃ = s Z₊ - (s - 1) Z₋
    Z̃ ← Z̃ · min(1, τ ‖Z₊‖₁ / ‖Z̃‖₁)      per token
    Z  = α Z̃ + (1 - α) Z₊

``s`` is the authors' ``nag_scale`` (the paper writes Z₊ + φ(Z₊ - Z₋), φ = s - 1). Their code for
Flux takes the 2-norm where the paper takes the 1-norm: the preset ``flux``
(``tests/guidance/recorded/nag.json``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class NormalizedAttentionGuidance(Rule[None]):
    """Steer away from concepts inside the attention layers; for calls without guidance.

    Attributes:
        scale: s, ``nag_scale``; how far to go from the concept's attention output, 1 changes
            nothing.
        tau: τ; largest growth of a token's norm.
        alpha: α; share of the steered output, 0 changes nothing.
        norm: 1 or 2, which norm of a token is limited.
    """

    scale: float = 5.0
    tau: float = 2.5
    alpha: float = 0.25
    norm: int = 1

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "flux": dict(scale=5.0, tau=2.5, alpha=0.25, norm=2),
        "mild": dict(scale=5.0, tau=2.5, alpha=0.125),
        "strong": dict(scale=5.0, tau=3.5, alpha=0.5),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (1.0, 1e3),
        "tau": (1e-3, 1e3),
        "alpha": (0.0, 1.0),
        "norm": (1, 2),
    }

    @property
    def needs(self) -> Needs:
        """The concepts' attention outputs, all concepts of an image as one text."""
        return "attention"

    def start(self, start: Start) -> None:
        """Nothing is carried from step to step."""

    def step(
        self, predictions: Predictions, step: Step, state: None
    ) -> tuple[Float[Tensor, "batch channel *space"], None]:
        """Predictions stay as they are; all happens in `combine`."""
        return predictions.cfg(step.guidance_scale), None

    def combine(
        self,
        positive: Float[Tensor, "batch token width"],
        negative: Float[Tensor, "batch token width"],
        weights: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch token width"]:
        """The attention output that replaces the prompt's.

        Args:
            positive: Z₊, attention to the prompt.
            negative: Z₋, attention to the concepts.
            weights: strength per image; 0 keeps the prompt's output.
        """
        plain = positive.float()
        steered = plain + (self.scale - 1) * (plain - negative.float())
        limit = self.tau * plain.norm(self.norm, -1, keepdim=True)
        length = steered.norm(self.norm, -1, keepdim=True).clamp(min=1e-20)
        steered = steered * (limit / length).clamp(max=1)
        amount = (self.alpha * weights)[:, None, None]
        return torch.where(amount > 0, plain + amount * (steered - plain), plain).to(positive.dtype)
