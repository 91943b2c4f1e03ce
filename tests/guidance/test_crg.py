from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tadasu.guidance.crg import ConceptRemovalGuidance
from tadasu.guidance.rule import Predictions, Step


def test_a_prompt_that_is_the_concept_is_pushed_by_its_evidence(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    """b/‖d‖² = 1, so ω = ½ + 1/T at the first step."""
    given = predictions([0, 0], [3, 4], [3, 4])
    guided, seen = ConceptRemovalGuidance(scale=2.0).step(given, at(count=10), torch.zeros(1, 1))
    expected = [2 * 3 * (1 - 2 * 0.6), 2 * 4 * (1 - 2 * 0.6)]
    assert guided.flatten().tolist() == pytest.approx(expected)
    assert seen.item() == pytest.approx(1.0)


def test_an_unrelated_prompt_is_left_alone(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    given = predictions([0, 0], [3, 0], [0, 4])
    guided, seen = ConceptRemovalGuidance().step(given, at(), torch.zeros(1, 1))
    torch.testing.assert_close(guided, given.cfg(2.0))
    assert seen.item() < 0


def test_the_threshold_is_relative_to_the_concepts_size(
    predictions: Callable[..., Predictions], at: Callable[..., Step]
) -> None:
    for size in (0.01, 1.0, 100.0):
        given = predictions([0, 0], [3 * size, 4 * size], [3 * size, 4 * size])
        guided, _ = ConceptRemovalGuidance(threshold=0.7).step(given, at(), torch.zeros(1, 1))
        torch.testing.assert_close(guided, given.cfg(2.0))
        guided, _ = ConceptRemovalGuidance(threshold=0.5).step(given, at(), torch.zeros(1, 1))
        assert not torch.allclose(guided, given.cfg(2.0))
