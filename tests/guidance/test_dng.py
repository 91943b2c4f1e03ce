"""Dynamic Negative Guidance against the published update and against an exact posterior."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tadasu.errors import UnknownName
from tadasu.guidance.dng import DynamicNegativeGuidance, Posterior
from tadasu.guidance.rule import Predictions, Step

MEANS = torch.tensor([-1.5, 1.5])
SPREAD = 0.3


def test_the_update_is_the_published_one(predictions: Callable[..., Predictions]) -> None:
    """The paper's α_t, ᾱ_t and means, written out in float64."""
    before, after = 0.3, 0.4  # ᾱ_t and ᾱ_{t-1}
    alpha = before / after
    generator = torch.Generator().manual_seed(0)
    x, x_next, base, concept = torch.randn(4, 5, generator=generator).double()

    def mean(noise: torch.Tensor) -> torch.Tensor:
        return torch.div(x - (1 - alpha) / math.sqrt(1 - before) * noise, math.sqrt(alpha))

    variance = (1 - after) / (1 - before) * (1 - alpha)
    tau, delta = 0.3, 0.02
    gaps = (x_next - mean(concept)).pow(2).sum() - (x_next - mean(base)).pow(2).sum()
    expected = math.log(0.2) + float((-tau * gaps + delta) / (2 * variance))
    rule = DynamicNegativeGuidance(
        prior=0.2, tau=tau, offset=delta, base="unconditional", lowest=1e-30, highest=0.999
    )
    state = Posterior(
        log_p=torch.tensor([[math.log(0.2)]]),
        latents=x.float().reshape(1, 1, 5),
        base=base.float().reshape(1, 1, 5),
        concepts=concept.float().reshape(1, 1, 1, 5),
        signal=math.sqrt(before),
        noise=math.sqrt(1 - before),
    )
    given = predictions([0] * 5, [0] * 5, [0] * 5, latents=x_next.tolist())
    step = Step(
        index=1, count=9, guidance_scale=1.0, signal=math.sqrt(after), noise=math.sqrt(1 - after)
    )
    _, carried = rule.step(given, step, state)
    assert carried.log_p.item() == pytest.approx(min(expected, math.log(0.999)), rel=1e-4)


def test_the_push_is_the_odds(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    rule = DynamicNegativeGuidance(prior=0.2, scale=3.0, base="prompt")
    given = predictions([0, 0], [1, 0], [0, 1])
    state = Posterior(log_p=torch.tensor([[math.log(0.2)]]))
    guided, _ = rule.step(given, at(), state)
    # cfg - 3 · 0.2/0.8 · (n - p)
    assert guided.flatten().tolist() == pytest.approx([2 + 0.75, -0.75])


def exact_noise(x: torch.Tensor, which: list[int], signal: float, noise: float) -> torch.Tensor:
    variance = (signal * SPREAD) ** 2 + noise**2
    means = signal * MEANS[which]
    shares = (-(x[:, None] - means).pow(2) / (2 * variance)).softmax(-1)
    return torch.mul(x - shares @ means, noise / variance)


def posterior_error(steps: int, count: int = 300) -> float:
    """Mean |p - exact p| over an ancestral path in a mixture of two Gaussians."""
    generator = torch.Generator().manual_seed(0)
    rule = DynamicNegativeGuidance(prior=0.5, base="unconditional", lowest=1e-9, highest=0.999999)
    x = torch.randn(count, generator=generator)
    state = Posterior(log_p=torch.full((1, count), math.log(0.5)))
    angles = [math.pi / 2 * (1 - (i + 0.01) / steps) for i in range(steps)]
    errors = []
    for index, angle in enumerate(angles):
        signal, noise = math.cos(angle), math.sin(angle)
        plain = exact_noise(x, [0, 1], signal, noise)
        given = Predictions(
            unconditional=plain[:, None, None],
            prompt=plain[:, None, None],
            concepts=exact_noise(x, [1], signal, noise)[None, :, None, None],
            evaluated=torch.ones(1, count, dtype=torch.bool),
            weights=torch.zeros(1, count),
            latents=x[:, None, None],
        )
        step = Step(index=index, count=steps, guidance_scale=1.0, signal=signal, noise=noise)
        guided, state = rule.step(given, step, state)
        assert torch.equal(guided[:, 0, 0], plain)
        variance = (signal * SPREAD) ** 2 + noise**2
        exact = (-(x[:, None] - signal * MEANS).pow(2) / (2 * variance)).softmax(-1)[:, 1]
        errors.append(float((state.log_p[0].exp() - exact).abs().mean()))
        if index + 1 < steps:
            kept = signal / math.cos(angles[index + 1])
            after = math.sin(angles[index + 1])
            added = noise**2 - (kept * after) ** 2
            deviation = math.sqrt(added) * after / noise
            x = (x - added / noise * plain) / kept
            x = x + deviation * torch.randn(count, generator=generator)
    return sum(errors) / len(errors)


def test_it_approaches_the_exact_posterior_as_steps_grow() -> None:
    """The exact setting: τ = 1, δ = 0, ancestral sampling."""
    few, some, many = (posterior_error(steps) for steps in (10, 40, 200))
    assert many < some < few
    assert many < 0.02
    assert many < 0.4 * few


def test_p_stays_between_its_bounds(predictions: Callable[..., Predictions]) -> None:
    rule = DynamicNegativeGuidance(lowest=0.01, highest=0.6, base="prompt")
    state = Posterior(
        log_p=torch.tensor([[math.log(0.2)]]),
        latents=torch.zeros(1, 1, 2),
        base=torch.zeros(1, 1, 2),
        concepts=torch.full((1, 1, 1, 2), 50.0),
        signal=0.3,
        noise=math.sqrt(1 - 0.09),
    )
    step = Step(index=1, count=9, guidance_scale=1.0, signal=0.4, noise=math.sqrt(1 - 0.16))
    for latents, expected in (([-99.0, -99.0], 0.6), ([99.0, 99.0], 0.01)):
        given = predictions([0, 0], [0, 0], [0, 0], latents=latents)
        _, carried = rule.step(given, step, state)
        assert carried.log_p.exp().item() == pytest.approx(expected, rel=1e-4)


def test_relative_evidence_does_not_grow_with_the_latent() -> None:
    rule = DynamicNegativeGuidance(relative=True, base="prompt", prior=0.5, tau=1e-6)
    changes = []
    for copies in (1, 8):
        state = Posterior(
            log_p=torch.tensor([[math.log(0.5)]]),
            latents=torch.zeros(1, 1, 2 * copies),
            base=torch.zeros(1, 1, 2 * copies),
            concepts=torch.ones(1, 1, 1, 2 * copies),
            signal=0.3,
            noise=math.sqrt(1 - 0.09),
        )
        blank = torch.zeros(1, 1, 2 * copies)
        given = Predictions(
            unconditional=blank,
            prompt=blank,
            concepts=blank[None],
            evaluated=torch.ones(1, 1, dtype=torch.bool),
            weights=torch.ones(1, 1),
            latents=blank,
        )
        step = Step(index=1, count=9, guidance_scale=1.0, signal=0.4, noise=math.sqrt(1 - 0.16))
        changes.append(rule.step(given, step, state)[1].log_p.item() - math.log(0.5))
    assert changes[0] == pytest.approx(changes[1], rel=1e-3)
    assert changes[0] < 0


def test_an_unknown_base() -> None:
    with pytest.raises(UnknownName, match="Did you mean guided"):
        DynamicNegativeGuidance(base="guidd")
