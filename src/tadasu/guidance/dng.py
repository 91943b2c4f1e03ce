"""Dynamic Negative Guidance: Koulischer et al., ICLR 2025, arXiv 2410.14398.

Exact identity: the score of "not this concept" is

    ∇log p(x|¬n) = ∇log p(x) - p(n|x)/(1 - p(n|x)) · (∇log p(x|n) - ∇log p(x))

and p(n|x) follows from Bayes' rule along the sampled path, because each step's transition is
Gaussian with known means:

    ε̂ = ε_b - λ₀ p/(1 - p) · (ε_n - ε_b)
    log p ← log p + [ -τ(‖x' - μ_n‖² - ‖x' - μ_b‖²) + δ ] / 2σ²,   clipped

with μ the mean of the ancestral step that a prediction implies and σ² its variance. The posterior
is kept as a logarithm in float32, and the update is not renormalised, as in the authors' code.

Departures, each stated:

- The update happens when the next x is seen, that is one step later; nothing is lost, because the
  last p is not used for anything.
- σ² is the ancestral (DDPM) variance of the step whatever the sampler does. That is exact for
  ancestral sampling; for deterministic and flow samplers it is a surrogate, computed from the
  signal and noise levels alone. Such samplers lack the noise that lets p rise, which ``tau`` below
  1 and a positive ``offset`` are there to counter.
- δ and the squared norms are sums over the latent, as published; ``relative`` divides both by the
  number of elements over 16,384, so that published values transfer from Stable Diffusion's latents.
- ``base`` chooses ε_b. The paper uses the guided prediction in text-to-image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.errors import BadInput, UnknownName
from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step

_BASES = ("guided", "prompt", "unconditional")


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """What one step leaves for the next.

    Attributes:
        log_p: log p(n|x) per concept and image.
        latents: x_t of the step before; None before the first step.
        base: ε_b of the step before.
        concepts: ε_n of the step before.
        signal: signal level of the step before.
        noise: noise level of the step before.
    """

    log_p: Float[Tensor, "concepts batch"]
    latents: Tensor | None = None
    base: Tensor | None = None
    concepts: Tensor | None = None
    signal: float = 0.0
    noise: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DynamicNegativeGuidance(Rule[Posterior]):
    """Push away from each concept as strongly as the path so far makes it probable.

    Attributes:
        prior: p(n) before the first step, in (0, 1).
        scale: λ₀; 1 is exact.
        tau: τ; temperature of the evidence, 1 is exact.
        offset: δ; constant added to the evidence, 0 is exact.
        lowest: smallest p.
        highest: largest p; the push is at most λ₀ · highest/(1 - highest).
        base: what the push is measured from: guided, prompt or unconditional.
        relative: True measures the evidence as if the latent had 16,384 elements.
    """

    prior: float = 0.01
    scale: float = 1.0
    tau: float = 1.0
    offset: float = 0.0
    lowest: float = 1e-6
    highest: float = 0.99
    base: str = "guided"
    relative: bool = False

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "exact": dict(prior=0.2),
        "stable_diffusion": dict(prior=0.01, tau=0.25, offset=0.003, scale=18, highest=0.8),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "prior": (1e-12, 1 - 1e-6),
        "scale": (0.0, 1e3),
        "tau": (0.0, 1e3),
        "offset": (-1e6, 1e6),
        "lowest": (1e-30, 0.5),
        "highest": (1e-6, 1 - 1e-6),
    }

    def __post_init__(self) -> None:
        """Refuse an unknown base."""
        super().__post_init__()
        if self.base not in _BASES:
            raise UnknownName("base of dng", self.base, _BASES)

    @property
    def needs(self) -> Needs:
        """One prediction per concept."""
        return "each"

    def start(self, start: Start) -> Posterior:
        """The prior."""
        return Posterior(log_p=torch.full_like(start.weights, math.log(self.prior)))

    def step(
        self, predictions: Predictions, step: Step, state: Posterior
    ) -> tuple[Float[Tensor, "batch channel *space"], Posterior]:
        """Update p with the step that was just taken, then push."""
        log_p = self._updated(state, predictions, step)
        guided = predictions.cfg(step.guidance_scale)
        base = {
            "guided": guided,
            "prompt": predictions.prompt,
            "unconditional": predictions.unconditional,
        }[self.base]
        odds = log_p.exp() / -torch.expm1(log_p)
        force = predictions.per_image(self.scale * predictions.weights * odds)
        push = (force * (predictions.concepts - base)).sum(0)
        carried = Posterior(
            log_p=log_p,
            latents=predictions.latents,
            base=base,
            concepts=predictions.concepts,
            signal=step.signal,
            noise=step.noise,
        )
        return guided - push, carried

    def _updated(
        self, state: Posterior, predictions: Predictions, step: Step
    ) -> Float[Tensor, "concepts batch"]:
        """Bayes' rule for the transition from the step before to this one."""
        if state.latents is None or state.base is None or state.concepts is None:
            return state.log_p
        axes = predictions.prompt.ndim - 1
        if step.noise <= 0 or step.signal <= 0 or state.signal <= 0:
            return state.log_p
        kept = state.signal / step.signal  # α_t of this transition, as a factor of x
        added = state.noise**2 - (kept * step.noise) ** 2  # 1 - α_t
        if added <= 0:
            raise BadInput(
                "The rule dng reads evidence from each transition to less noise, but between steps "
                f"{step.index} and {step.index + 1} the noise level did not fall, so there is no "
                "variance. Use a scheduler of first order, for example DDPM, DDIM or Euler."
            )
        reach = added / (kept * state.noise)
        variance = added * (step.noise / state.noise) ** 2  # σ_t²
        centre = state.latents / kept
        drift = reach * (state.base - state.concepts)  # μ_n - μ_b
        seen = predictions.latents - centre + reach * (state.concepts + state.base) / 2
        evidence = 2 * (seen * drift).flatten(-axes).sum(-1)  # ‖x'-μ_b‖² - ‖x'-μ_n‖²
        size = 16384 / math.prod(predictions.prompt.shape[1:]) if self.relative else 1.0
        change = (self.tau * size * evidence + self.offset) / (2 * variance)
        bounds = math.log(self.lowest), math.log(self.highest)
        return (state.log_p + change).clamp(*bounds)
