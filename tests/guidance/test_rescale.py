from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tadasu.guidance.rescale import GuidanceRescale
from tadasu.guidance.rule import Predictions, Step


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0])
def test_the_standard_deviation_moves_towards_the_prompts(
    predictions: Callable[..., Predictions], at: Callable[..., Step], amount: float
) -> None:
    given = predictions([0.0, 1.0, -1.0], [0.5, 2.0, -3.0], [0, 0, 0])
    guided, _ = GuidanceRescale(amount=amount).step(given, at(scale=5), None)
    plain = given.cfg(5.0)
    expected = amount * given.prompt.std() + (1 - amount) * plain.std()
    torch.testing.assert_close(guided.std(), expected)
    torch.testing.assert_close(guided / guided.std(), plain / plain.std())
