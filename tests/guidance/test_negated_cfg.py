from __future__ import annotations

from collections.abc import Callable

import torch

from tadasu.guidance.negated_cfg import NegatedCFG
from tadasu.guidance.rule import Predictions, Step


def test_hand_worked_numbers_with_two_concepts(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([1, 1], [2, 3], [3, 1], [1, 5], weights=[1.0, 0.5])
    guided, _ = NegatedCFG(scale=0.5).step(given, at(), None)
    # u + 2(p - u) - 0.5·2·[(2, 0) + 0.5·(0, 4)]
    assert guided.flatten().tolist() == [1 + 2 - 2, 1 + 4 - 2]


def test_a_prompt_that_is_the_concept_becomes_unconditional(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([0.5, 0.1], [2, 3], [2, 3])
    guided, _ = NegatedCFG().step(given, at(), None)
    torch.testing.assert_close(guided, given.unconditional)
