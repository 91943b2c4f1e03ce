"""The exact paired test, against sums written out by hand and scipy's binomial test."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tadasu.errors import BadInput
from tadasu.statistics.mcnemar import mcnemar


def pairs(first_only: int, second_only: int, same: int) -> tuple[list[bool], list[bool]]:
    first = [True] * first_only + [False] * second_only + [True] * same
    second = [False] * first_only + [True] * second_only + [True] * same
    return first, second


@pytest.mark.parametrize(
    ("b", "c", "same"), [(6, 0, 0), (9, 2, 5), (3, 3, 1), (0, 0, 4), (1, 12, 0)]
)
def test_against_the_sum_by_hand(b: int, c: int, same: int) -> None:
    result = mcnemar(*pairs(b, c, same))
    expected = min(1.0, 2 * sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c))
    assert result.p_value == pytest.approx(expected, rel=1e-12)
    assert (result.first_only, result.second_only, result.n) == (b, c, b + c + same)
    assert result.difference == pytest.approx((c - b) / (b + c + same))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_is_symmetric_and_agrees_with_scipy(both: list[tuple[bool, bool]]) -> None:
    from scipy.stats import binomtest

    first, second = [a for a, _ in both], [b for _, b in both]
    result = mcnemar(first, second)
    assert mcnemar(second, first).p_value == result.p_value
    differ = result.first_only + result.second_only
    if differ:
        oracle = binomtest(result.first_only, differ, 0.5).pvalue
        assert result.p_value == pytest.approx(oracle, rel=1e-9)


def test_items_must_pair() -> None:
    with pytest.raises(BadInput, match="given 1 and 2"):
        mcnemar([True], [True, False])
    with pytest.raises(BadInput, match="given 0 and 0"):
        mcnemar([], [])


@pytest.mark.parametrize("differ", [5, 12, 40])
def test_it_alarms_no_more_often_than_promised_and_sees_what_is_there(differ: int) -> None:
    """Over all outcomes of so many differing pairs, each with its probability."""
    counts = np.arange(differ + 1)
    values = [mcnemar(*pairs(int(k), differ - int(k), 3)).p_value for k in counts]
    alarm = np.array(values) <= 0.05
    assert binom.pmf(counts, differ, 0.5)[alarm].sum() <= 0.05
    if differ == 40:
        assert binom.pmf(counts, differ, 0.8)[alarm].sum() > 0.95


def test_has_the_sign_of_the_bootstrap() -> None:
    from tadasu.statistics.bootstrap import paired_bootstrap

    first, second = pairs(9, 2, 5)
    drawn = paired_bootstrap(first, second, list(range(16)))
    assert mcnemar(first, second).difference == pytest.approx(drawn.difference.estimate)
