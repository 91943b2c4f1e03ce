"""Detector guidance: another model's view of what is inappropriate corrects the generation.

In the line of classifier guidance (Dhariwal and Nichol 2021, arXiv 2105.05233) and universal
guidance (Bansal et al. 2023, arXiv 2302.07121): a detector that knows nothing of noise looks at the
predicted clean image, and the generation moves against the gradient of its score. With
x̂₀ = (x_t - noise·ε) / signal and s the score in [0, 1],

    g = ∇_{x̂₀} s(decode(x̂₀)), scaled to mean square 1 per image
    ε̂ = ε_cfg + scale · s · noise · g

Departures: the gradient stops at x̂₀ instead of running through the denoiser, so a step costs one
decoding and one look, not a backward pass of the denoiser; its length is normalised; and it is
multiplied by the score itself, so that nothing happens where the detector sees nothing. The
detector looks every ``every``-th step, and its last correction is held in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.errors import BadInput
from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step

#: RGB pictures in [0, 1], ``batch 3 height width``, to one differentiable score in [0, 1] for each;
#: 1 means surely inappropriate.
Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the detector last said.

    Attributes:
        decode: latents to pictures in [0, 1].
        correction: s · g of the latest look.
    """

    decode: Callable[[Tensor], Tensor] | None
    correction: Float[Tensor, "batch channel *space"]


@dataclass(frozen=True, kw_only=True)
class DetectorGuidance(Rule[Look]):
    """Move against the gradient of a detector's score.

    Attributes:
        scale: size of the correction where the score is 1, in units of the noise.
        every: the detector looks every so many steps.
        warmup: fraction of the schedule before the first look; x̂₀ is a blur before.
        score: the detector; required when the rule is attached.
    """

    scale: float = 1.0
    every: int = 2
    warmup: float = 0.2
    score: Score | None = field(default=None, compare=False)

    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "scale": (0.0, 1e3),
        "every": (1, 10_000),
        "warmup": (0.0, 1.0),
    }

    @property
    def needs(self) -> Needs:
        """Nothing beside the pipeline's own predictions."""
        return "nothing"

    def parameters(self) -> dict[str, float | int | bool | str]:
        """The numbers, and the detector's name."""
        named = getattr(self.score, "__name__", type(self.score).__name__)
        score = "none" if self.score is None else str(named)
        return {"scale": self.scale, "every": self.every, "warmup": self.warmup, "score": score}

    def ready(self) -> None:
        """Refuse to be attached without a detector.

        Raises:
            BadInput: no detector was given.
        """
        if self.score is None:
            raise BadInput(
                "The rule detector needs a detector: DetectorGuidance(score=f), where f takes "
                "pictures in [0, 1] and returns one differentiable score in [0, 1] for each."
            )

    def start(self, start: Start) -> Look:
        """Nothing was seen yet."""
        return Look(decode=start.decode, correction=torch.zeros_like(start.latents))

    def step(
        self, predictions: Predictions, step: Step, state: Look
    ) -> tuple[Float[Tensor, "batch channel *space"], Look]:
        """Plain guidance plus the correction."""
        guided = predictions.cfg(step.guidance_scale)
        begun = step.begins_at(self.warmup)
        if begun and self.score is not None and step.index % self.every == 0 and step.signal > 0:
            clean = (predictions.latents - step.noise * guided) / step.signal
            state = Look(decode=state.decode, correction=self._look(clean, state))
        return guided + self.scale * step.noise * state.correction, state

    def _look(self, clean: Tensor, state: Look) -> Tensor:
        """The score times its normalised gradient, for predicted clean latents."""
        if self.score is None or state.decode is None:
            raise BadInput("The rule detector cannot see the latents of this pipeline as pictures.")
        with torch.enable_grad():
            clean = clean.detach().requires_grad_()
            score = self.score(state.decode(clean))
            (gradient,) = torch.autograd.grad(score.sum(), clean)
        size = gradient.pow(2).flatten(1).mean(1).sqrt().clamp(min=1e-20)
        weight = (score.detach() / size).reshape(-1, *(1,) * (clean.ndim - 1))
        return weight * gradient
