from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tadasu.guidance.perp_neg import PerpendicularNegative
from tadasu.guidance.rule import Predictions, Step


def test_only_the_perpendicular_part_is_subtracted(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([0, 0], [2, 0], [3, 4])
    guided, _ = PerpendicularNegative(scale=1.5).step(given, at(), None)
    assert guided.flatten().tolist() == pytest.approx([2 * 2, -2 * 1.5 * 4])


def test_a_prompt_that_is_the_concept_is_not_guarded(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    """The known hole, stated in the rule's page."""
    given = predictions([0.5, 0.1], [2, 3], [2, 3])
    guided, _ = PerpendicularNegative().step(given, at(), None)
    torch.testing.assert_close(guided, given.cfg(2.0))


def test_an_empty_prompt_divides_by_nothing(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    guided, _ = PerpendicularNegative().step(predictions([1, 1], [1, 1], [3, 4]), at(), None)
    assert guided.flatten().tolist() == [1 - 2 * 2, 1 - 2 * 3]
