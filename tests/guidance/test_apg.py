from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tadasu.guidance.apg import AdaptiveProjectedGuidance
from tadasu.guidance.rule import Predictions, Step


def test_eta_one_is_plain_guidance(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([0, 1], [3, 4], [0, 0])
    guided, _ = AdaptiveProjectedGuidance(eta=1.0).step(given, at(scale=5), torch.zeros(1, 1, 2))
    torch.testing.assert_close(guided, given.cfg(5.0))


def test_only_the_perpendicular_part_is_amplified(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    """ε_p = (2, 0), Δ = (1, 3): the guided prediction is (2, 0) + 4·(0, 3)."""
    given = predictions([1, -3], [2, 0], [0, 0])
    guided, _ = AdaptiveProjectedGuidance().step(given, at(scale=5), torch.zeros(1, 1, 2))
    assert guided.flatten().tolist() == pytest.approx([2, 12])


def test_radius_limits_and_momentum_pushes_back(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([0, -3], [0, 0], [0, 0])
    rule = AdaptiveProjectedGuidance(radius=1.0, eta=1.0)
    guided, carried = rule.step(given, at(scale=2), torch.zeros(1, 1, 2))
    assert guided.flatten().tolist() == pytest.approx([0, 2**0.5])
    rule = AdaptiveProjectedGuidance(momentum=-0.5, eta=1.0)
    guided, _ = rule.step(given, at(scale=2), carried)
    assert guided.flatten().tolist() == pytest.approx([0, 3 - 1.5])
