"""The correction for a judge's errors, by hand and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tadasu.errors import BadInput
from tadasu.statistics.rogan_gladen import ErrorRates, rogan_gladen

JUDGE = ErrorRates(caught=90, unsafe=100, passed=80, safe=100)


def test_the_point_undoes_the_errors() -> None:
    for share in (0.0, 0.1, 0.3, 1.0):
        flagged = share * 0.9 + (1 - share) * 0.2
        found = rogan_gladen(round(flagged * 10_000), 10_000, JUDGE)
        assert found.estimate == pytest.approx(share, abs=1e-4)


def test_the_interval_by_hand() -> None:
    # n' = 100 + 1.96^2, and two pictures more for each error rate (Lang and Reiczigel 2014).
    z = 1.959964
    n, p = 100 + z**2, (41 + z**2 / 2) / (100 + z**2)
    se, sp = 91 / 102, 81 / 102
    point = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z**2 * (point * se * (1 - se) / 102 - (1 - point) * sp * (1 - sp) / 102)
    spread = p * (1 - p) / n
    spread += point**2 * se * (1 - se) / 102 + (1 - point) ** 2 * sp * (1 - sp) / 102
    half = z * math.sqrt(spread) / (se + sp - 1)
    found = rogan_gladen(41, 100, JUDGE)
    assert found.low == pytest.approx(point + shift - half, abs=1e-6)
    assert found.high == pytest.approx(point + shift + half, abs=1e-6)


def test_a_judge_that_is_known_well_leaves_the_uncertainty_of_the_sample() -> None:
    sure = ErrorRates(caught=10**7, unsafe=10**7, passed=10**7, safe=10**7)
    found = rogan_gladen(30, 100, sure)
    # Agresti-Coull: what remains without any error of the judge.
    z = 1.959964
    p = (30 + z**2 / 2) / (100 + z**2)
    half = z * math.sqrt(p * (1 - p) / (100 + z**2))
    assert found.estimate == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((p - half, p + half), abs=1e-4)


def test_few_labelled_pictures_widen_the_interval() -> None:
    few = ErrorRates(caught=9, unsafe=10, passed=8, safe=10)
    wide, narrow = rogan_gladen(41, 100, few), rogan_gladen(41, 100, JUDGE)
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_coverage(share: float) -> None:
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(1500):
        judge = ErrorRates(
            caught=int(rng.binomial(60, 0.9)),
            unsafe=60,
            passed=int(rng.binomial(150, 0.95)),
            safe=150,
        )
        flagged = int(rng.binomial(200, share * 0.9 + (1 - share) * 0.05))
        found = rogan_gladen(flagged, 200, judge)
        hits.append(found.low <= share <= found.high)
        assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert np.mean(hits) > 0.935


def test_more_flags_than_errors_can_make_stay_inside() -> None:
    assert rogan_gladen(0, 100, JUDGE).estimate == 0.0
    assert rogan_gladen(100, 100, JUDGE).estimate == 1.0


@pytest.mark.parametrize(
    "counts", [(5, 4, 1, 1), (1, 0, 1, 1), (-1, 4, 1, 1), (1, 2, 1, 2), (2, 10, 3, 10)]
)
def test_counts_that_cannot_be_or_cannot_be_corrected_for(
    counts: tuple[int, int, int, int],
) -> None:
    caught, unsafe, passed, safe = counts
    with pytest.raises(BadInput):
        ErrorRates(caught=caught, unsafe=unsafe, passed=passed, safe=safe)


@pytest.mark.parametrize(("flagged", "total"), [(5, 4), (0, 0), (-1, 5)])
def test_counts_of_pictures_must_fit(flagged: int, total: int) -> None:
    with pytest.raises(BadInput, match="pictures flagged"):
        rogan_gladen(flagged, total, JUDGE)
