from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tadasu.errors import BadInput
from tadasu.guidance.detector import DetectorGuidance, Look
from tadasu.guidance.rule import Predictions, Start, Step


def started(rule: DetectorGuidance, decode: Callable[[torch.Tensor], torch.Tensor]) -> Look:
    weights = torch.zeros(0, 1)
    return rule.start(
        Start(
            count=10,
            weights=weights,
            latents=torch.zeros(1, 1, 2),
            likeness=weights,
            decode=decode,
        )
    )


def test_hand_worked_numbers(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    """s = 0.5·x̂₀[0] = 0.25; g = (√2, 0); noise = 0.8."""
    rule = DetectorGuidance(score=lambda x: 0.5 * x[:, 0, 0], warmup=0.0, scale=3.0)
    given = predictions([0, 0], [0, 0], [0, 0], latents=[0.3, 9.0])  # x̂₀ = latents / 0.6
    guided, state = rule.step(given, at(), started(rule, lambda x: x))
    expected = [3.0 * 0.8 * 0.25 * 2**0.5, 0.0]
    assert guided.flatten().tolist() == pytest.approx(expected)
    held, _ = rule.step(given, at(index=1), state)
    assert torch.equal(held, guided)


def test_nothing_happens_where_the_detector_sees_nothing(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    rule = DetectorGuidance(score=lambda x: 0 * x[:, 0, 0], warmup=0.0)
    given = predictions([0, 1], [2, 0], [0, 0])
    guided, _ = rule.step(given, at(), started(rule, lambda x: x))
    torch.testing.assert_close(guided, given.cfg(2.0))


def test_it_goes_downhill_without_gradients_around_it(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    rule = DetectorGuidance(score=lambda x: x[:, 0].sigmoid().mean(1), warmup=0.0)
    given = predictions([0, 0], [0, 0], [0, 0], latents=[1.0, 1.0])
    with torch.no_grad():
        guided, _ = rule.step(given, at(), started(rule, lambda x: x))
    assert (guided > 0).all()  # more noise predicted, so the clean image moves down
    assert not guided.requires_grad


def test_it_is_not_attached_without_a_detector() -> None:
    with pytest.raises(BadInput, match="needs a detector"):
        DetectorGuidance().ready()
