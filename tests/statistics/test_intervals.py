"""Shares and their intervals: hand-worked limits, SciPy's, and coverage."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tadasu.errors import BadInput
from tadasu.statistics.intervals import Rate, clopper_pearson, wilson


@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 60), (7, 60), (59, 60), (60, 60)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_equal_to_scipy(count: int, n: int, confidence: float) -> None:
    pairs: tuple[tuple[Any, Literal["wilson", "exact"]], ...] = (
        (wilson, "wilson"),
        (clopper_pearson, "exact"),
    )
    for ours, method in pairs:
        found = ours(count, n, confidence=confidence)
        expected = binomtest(count, n).proportion_ci(confidence, method=method)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_was_measured() -> None:
    found = wilson(0, 0)
    assert (found.low, found.high) == (0.0, 1.0)
    assert math.isnan(found.estimate)
    assert Rate(count=0, n=0).as_json()["value"] is None


@pytest.mark.parametrize("p", [0.03, 0.3, 0.9])
def test_coverage(p: float) -> None:
    n = 60
    counts = np.arange(n + 1)
    chance = binom.pmf(counts, n, p)
    for method, least in ((wilson, 0.92), (clopper_pearson, 0.95)):
        holds = [method(int(k), n).low <= p <= method(int(k), n).high for k in counts]
        assert float(chance[np.array(holds)].sum()) >= least


@pytest.mark.parametrize(("count", "n", "confidence"), [(2, 1, 0.95), (-1, 1, 0.95), (1, 2, 1.0)])
def test_counts_that_cannot_be(count: int, n: int, confidence: float) -> None:
    with pytest.raises(BadInput):
        wilson(count, n, confidence=confidence)
