"""SLD against numbers worked by hand."""

from __future__ import annotations

import torch

from tadasu.guidance.rule import Predictions, Step
from tadasu.guidance.sld import SafeLatentDiffusion


def step(index: int, count: int = 10) -> Step:
    return Step(index=index, count=count, guidance_scale=2.0, signal=0.6, noise=0.8)


def predictions(weight: float = 1.0) -> Predictions:
    """ε_u = 0; ε_p - ε_S is -0.5 (pushed fully), -0.005 (pushed by half) and +0.2 (left alone)."""

    def row(values: list[float]) -> torch.Tensor:
        return torch.tensor(values).reshape(1, 1, 3)

    return Predictions(
        unconditional=row([0, 0, 0]),
        prompt=row([0.5, 0.995, 1.2]),
        concepts=row([1, 1, 1])[None],
        evaluated=torch.ones(1, 1, dtype=torch.bool),
        weights=torch.tensor([[weight]]),
        latents=row([0, 0, 0]),
    )


def test_hand_worked_numbers() -> None:
    rule = SafeLatentDiffusion(scale=100, threshold=0.1, warmup=0.0, momentum=0.5, decay=0.4)
    momentum = torch.tensor([0.0, 0.2, 0.4]).reshape(1, 1, 3)
    guided, carried = rule.step(predictions(), step(0), momentum)
    # μ = 1, 0.5, 0; γ = μ·1 + 0.5·ν = 1, 0.6, 0.2
    expected = 2 * torch.tensor([0.5 - 1, 0.995 - 0.6, 1.2 - 0.2])
    torch.testing.assert_close(guided.flatten(), expected)
    # ν' = 0.4·ν + 0.6·γ
    torch.testing.assert_close(carried.flatten(), torch.tensor([0.6, 0.44, 0.28]))


def test_the_test_of_the_threshold_has_a_sign() -> None:
    """Elements far below the threshold pass whatever their size."""
    rule = SafeLatentDiffusion(scale=1e6, threshold=0.0, warmup=0.0, momentum=0.0)
    guided, _ = rule.step(predictions(), step(0), torch.zeros(1, 1, 3))
    pushed = (guided.flatten() - 2 * torch.tensor([0.5, 0.995, 1.2])).abs() > 1e-6
    assert pushed.tolist() == [True, True, False]


def test_momentum_grows_in_warm_up_but_is_not_applied() -> None:
    rule = SafeLatentDiffusion.preset("medium")
    given = predictions()
    guided, carried = rule.step(given, step(1), torch.zeros(1, 1, 3))
    assert torch.equal(guided, given.cfg(2.0))
    assert carried.abs().sum() > 0
    guided, _ = rule.step(given, step(2), carried)
    assert not torch.equal(guided, given.cfg(2.0))


def test_strength_scales_what_is_subtracted_but_not_the_momentum() -> None:
    rule = SafeLatentDiffusion.preset("max")
    full, carried_full = rule.step(predictions(), step(0), torch.zeros(1, 1, 3))
    half, carried_half = rule.step(predictions(0.5), step(0), torch.zeros(1, 1, 3))
    plain = predictions().cfg(2.0)
    torch.testing.assert_close(half - plain, (full - plain) / 2)
    assert torch.equal(carried_full, carried_half)


def test_weak_asks_for_nothing_in_warm_up() -> None:
    rule = SafeLatentDiffusion.preset("weak")
    weights, state = torch.ones(1, 1), torch.zeros(1, 1, 3)
    assert not rule.wants(step(2), state, weights).any()
    assert rule.wants(step(3), state, weights).all()
    assert SafeLatentDiffusion.preset("medium").wants(step(0), state, weights).all()


def test_warm_up_is_a_share_of_any_schedule() -> None:
    rule = SafeLatentDiffusion.preset("strong")
    for count, first in ((50, 7), (20, 3), (10, 1), (4, 1)):
        begins = [step(i, count).begins_at(rule.warmup) for i in range(count)]
        assert begins.index(True) == first
