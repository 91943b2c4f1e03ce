"""Two-dimensional mixtures whose noised densities, scores and conditionals are known exactly.

The forward process is x_t = signal·x₀ + noise·ε. A component N(m, s²I) becomes
N(signal·m, (signal²s² + noise²)I), so the exact ε-prediction of a mixture is
noise · Σ_k r_k(x) (x - signal·m_k) / (signal²s² + noise²), r the responsibilities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tadasu.guidance.rule import Predictions, Rule, Start, Step


@dataclass(frozen=True)
class Mixture:
    """Equal, round components.

    Attributes:
        means: one row per component.
        spread: standard deviation of each.
        weights: share of each component; they add to 1.
    """

    means: Tensor
    spread: float
    weights: Tensor

    @classmethod
    def of(cls, means: Sequence[Sequence[float]], spread: float = 0.25) -> Mixture:
        """Components with equal shares."""
        count = len(means)
        return cls(torch.tensor(means).float(), spread, torch.full((count,), 1 / count))

    def only(self, components: Sequence[int]) -> Mixture:
        """The conditional on some of the components."""
        kept = self.weights[list(components)]
        return Mixture(self.means[list(components)], self.spread, kept / kept.sum())

    def logs(self, x: Tensor, signal: float = 1.0, noise: float = 0.0) -> Tensor:
        """Log density of each component times its share."""
        variance = (signal * self.spread) ** 2 + noise**2
        squares = (x[:, None] - signal * self.means).pow(2).sum(-1)
        return self.weights.log() - squares / (2 * variance) - math.log(2 * math.pi * variance)

    def posterior(self, x: Tensor, signal: float = 1.0, noise: float = 0.0) -> Tensor:
        """Share of each component at x."""
        return self.logs(x, signal, noise).softmax(-1)

    def predict(self, x: Tensor, signal: float, noise: float) -> Tensor:
        """The exact ε-prediction."""
        variance = (signal * self.spread) ** 2 + noise**2
        centre = signal * (self.posterior(x, signal, noise) @ self.means)
        return noise * (x - centre) / variance

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Clean samples."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, 2, generator=generator)
        return self.means[which] + self.spread * noise


def levels(steps: int) -> list[tuple[float, float]]:
    """Signal and noise of a cosine schedule, from nearly pure noise to clean."""
    angles = [math.pi / 2 * (1 - (i + 0.02) / (steps + 0.02)) for i in range(steps)] + [0.0]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


@dataclass
class Path:
    """What a run leaves behind.

    Attributes:
        end: the samples.
        seen: x_t at every step.
        states: the rule's state after every step.
    """

    end: Tensor
    seen: list[Tensor] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)


def run(
    rule: Rule[Any],
    unconditional: Mixture,
    prompt: Mixture,
    concept: Mixture,
    *,
    scale: float,
    steps: int,
    count: int,
    ancestral: bool,
    seed: int = 0,
    strength: float = 1.0,
) -> Path:
    """Sample with a rule, with exact predictions instead of a network."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 2, generator=generator)
    schedule = levels(steps)
    weights = torch.full((1, count), strength)
    unknown = torch.full_like(weights, torch.nan)
    state = rule.start(Start(count=steps, weights=weights, latents=x[:, None], likeness=unknown))
    path = Path(x)
    for index, ((signal, noise), (signal_next, noise_next)) in enumerate(
        itertools.pairwise(schedule)
    ):
        step = Step(index=index, count=steps, guidance_scale=scale, signal=signal, noise=noise)
        wanted = rule.wants(step, state, weights)
        plain = unconditional.predict(x, signal, noise)[:, None]
        asked = concept.predict(x, signal, noise)[:, None]
        predictions = Predictions(
            unconditional=plain,
            prompt=prompt.predict(x, signal, noise)[:, None],
            concepts=torch.where(wanted[..., None, None], asked[None], plain[None]),
            evaluated=wanted,
            weights=weights,
            latents=x[:, None],
        )
        guided, state = rule.step(predictions, step, state)
        path.seen.append(x)
        path.states.append(state)
        x = _move(x, guided[:, 0], signal, noise, signal_next, noise_next, ancestral, generator)
    path.end = x
    return path


def _move(
    x: Tensor,
    noise_prediction: Tensor,
    signal: float,
    noise: float,
    signal_next: float,
    noise_next: float,
    ancestral: bool,
    generator: torch.Generator,
) -> Tensor:
    """One DDPM (ancestral) or DDIM step."""
    if not ancestral:
        clean = (x - noise * noise_prediction) / signal
        return signal_next * clean + noise_next * noise_prediction
    kept = signal / signal_next
    added = noise**2 - (kept * noise_next) ** 2
    mean = (x - added / noise * noise_prediction) / kept
    deviation = math.sqrt(added) * noise_next / noise
    return mean + deviation * torch.randn(x.shape, generator=generator)


def energy_distance(first: Tensor, second: Tensor) -> float:
    """Energy distance between two sets of samples: 0 only if they come from the same density."""
    cross = torch.cdist(first, second).mean()
    within = torch.cdist(first, first).mean() + torch.cdist(second, second).mean()
    return float((2 * cross - within).clamp(min=0).sqrt())
