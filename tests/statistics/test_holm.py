"""Holm's adjustment against hand-worked numbers and a naive step-down."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tadasu.errors import BadInput
from tadasu.statistics.holm import holm


def rejected_step_down(p_values: NDArray[np.float64], level: float) -> set[int]:
    """Holm's procedure as he wrote it: stop at the first p above level / (comparisons left)."""
    found: set[int] = set()
    for step, item in enumerate(np.argsort(p_values)):
        if p_values[item] > level / (p_values.size - step):
            break
        found.add(int(item))
    return found


def test_hand_worked() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]).tolist() == [0.2]
    assert holm([0.6, 0.5]).tolist() == [1.0, 1.0]


def test_the_adjusted_values_reject_what_the_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = rng.random(rng.integers(1, 8)) ** 3
        level = float(rng.random())
        assert set(np.flatnonzero(holm(p_values) <= level)) == rejected_step_down(p_values, level)


def test_any_false_alarm_is_as_rare_as_promised() -> None:
    rng = np.random.default_rng(1)
    alarms = [holm(rng.random(6)).min() < 0.05 for _ in range(4000)]
    assert 0.038 < np.mean(alarms) < 0.062


@pytest.mark.parametrize("given", [[], [[0.1]], [1.1], [-0.1], [float("nan"), 0.1]])
def test_what_is_no_p_value(given: list[float]) -> None:
    with pytest.raises(BadInput):
        holm(given)
