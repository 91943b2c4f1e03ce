"""Contrastive CFG: Chang, Chung and Ye, ICML 2026, arXiv 2411.17077.

Follows the authors' code (jinhojsk515/ContrastiveCFG).
Guidance as one descent step on a noise-contrastive loss, for the prompt (+) and each concept (-):

    ε̂ = ε_u + s_g · 2σ(τ r_p²)(ε_p - ε_u) - s_g Σ_k w_k · 2σ(-τ r_k²)(ε_k - ε_u)
    r_c² = Σ (ε_c - ε_u)² over the whole latent

The published τ = 0.2 multiplies a *sum* over the 4·64·64 elements of Stable Diffusion's latent and
means something else for every other size. Here ``tau`` multiplies the *mean*, so that it transfers;
the preset ``published`` is 0.2 · 16,384.

Read before use: a large gap is read as "far from the concept" and switches the push off. But when
the prompt *is* the concept, ε_k lies near ε_p and both lie far from ε_u, so the push is off exactly
when it is needed, until the image itself shows the concept. With the published τ that is most of
the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@dataclass(frozen=True, kw_only=True)
class ContrastiveCFG(Rule[None]):
    """Pull to the prompt and push from concepts with weights that depend on how far they are.

    Attributes:
        tau: sharpness of the weights, per mean squared difference; 0 is negated guidance.
        relative: True measures the gaps in units of the prompt's own gap r_p², which makes ``tau``
            independent of model, size and step.
        positive: True also weights the prompt's term, by 1 to 2.
    """

    tau: float = 0.2 * 4 * 64 * 64
    relative: bool = False
    positive: bool = True

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "published": dict(tau=0.2 * 4 * 64 * 64),
        "relative": dict(tau=1.0, relative=True),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"tau": (0.0, 1e9)}

    @property
    def needs(self) -> Needs:
        """One prediction per concept."""
        return "each"

    def start(self, start: Start) -> None:
        """Nothing is carried from step to step."""

    def step(
        self, predictions: Predictions, step: Step, state: None
    ) -> tuple[Float[Tensor, "batch channel *space"], None]:
        """Both terms with their weights."""
        weights = predictions.weights
        prompt = predictions.prompt - predictions.unconditional
        concepts = predictions.concepts - predictions.unconditional
        pull = prompt.pow(2).flatten(1).mean(-1)  # r_p² per element
        push = concepts.pow(2).flatten(2).mean(-1)
        unit = pull.clamp(min=1e-20) if self.relative else 1.0
        negative = weights * 2 * (-self.tau * push / unit).sigmoid()
        grown = 2 * (self.tau * pull / unit).sigmoid() - 1 if self.positive else 0 * pull
        strongest = weights.amax(0) if len(weights) else 0 * pull
        positive = 1 + strongest.clamp(max=1) * grown
        away = (predictions.per_image(negative) * concepts).sum(0)
        direction = predictions.per_image(positive) * prompt - away
        return predictions.unconditional + step.guidance_scale * direction, None
