"""Contrastive CFG against the gradient of its own loss, and its limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tadasu.guidance.ccfg import ContrastiveCFG
from tadasu.guidance.negated_cfg import NegatedCFG
from tadasu.guidance.rule import Predictions, Step


def loss(
    point: torch.Tensor, target: torch.Tensor, other: torch.Tensor, tau: float, sign: int
) -> torch.Tensor:
    """ℓ⁺ for sign 1 and ℓ⁻ for -1: noise-contrastive, with Gaussian likelihoods."""
    near = -tau * (point - target).pow(2).sum()
    far = -tau * (point - other).pow(2).sum()
    share = torch.stack([near, far]).softmax(0)[0]
    return -(share if sign == 1 else 1 - share).log()


@pytest.mark.parametrize("tau", [0.05, 0.7, 2.0])
def test_one_step_down_the_contrastive_loss(
    predictions: Callable[..., Predictions], at: Callable[..., Step], tau: float
) -> None:
    u, p, n = torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).tolist()
    given = predictions(u, p, n)
    guided, _ = ContrastiveCFG(tau=tau * 6).step(given, at(scale=3.0), None)
    start, positive, negative = (torch.tensor(values).double() for values in (u, p, n))

    def both(point: torch.Tensor) -> torch.Tensor:
        return loss(point, positive, start, tau, 1) + loss(point, negative, start, tau, -1)

    small = 1e-6 * torch.eye(6).double()
    slope = torch.stack([(both(start + step) - both(start - step)) / 2e-6 for step in small])
    expected = start - 3.0 / tau * slope
    torch.testing.assert_close(guided.flatten().double(), expected, rtol=1e-4, atol=1e-4)


def test_tau_zero_is_negated_guidance(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([0, 1], [2, 0], [3, 4])
    ours, _ = ContrastiveCFG(tau=0.0).step(given, at(), None)
    other, _ = NegatedCFG().step(given, at(), None)
    torch.testing.assert_close(ours, other)


@pytest.mark.parametrize("relative", [True, False])
def test_tau_transfers_between_latent_sizes(
    predictions: Callable[..., Predictions], at: Callable[..., Step], relative: bool
) -> None:
    rule = ContrastiveCFG(tau=0.3, relative=relative)
    small, _ = rule.step(predictions([0, 1], [2, 0], [3, 4]), at(), None)
    large, _ = rule.step(predictions([0, 1] * 8, [2, 0] * 8, [3, 4] * 8), at(), None)
    torch.testing.assert_close(large.flatten()[:2], small.flatten())


def test_published_setting_is_the_sum_of_stable_diffusions_latent() -> None:
    assert ContrastiveCFG.preset("published").tau == pytest.approx(0.2 * 16384)


def test_the_push_is_off_where_the_concept_is_far(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    rule = ContrastiveCFG(tau=100.0, positive=False)
    given = predictions([0, 0], [1, 0], [0, 3])
    torch.testing.assert_close(rule.step(given, at(), None)[0], given.cfg(2.0))
