from __future__ import annotations

import math

import numpy as np
import pytest

from tadasu.errors import BadInput
from tadasu.statistics.confidence_sequence import confidence_sequence
from tadasu.statistics.intervals import Rate


def test_limits_are_where_the_mixture_ratio_reaches_one_over_alpha() -> None:
    limits = confidence_sequence(7, 20, 0.9, around=0.3, width=4.0)
    a, b = 1.2, 2.8

    def beta(x: float, y: float) -> float:
        return math.gamma(x) * math.gamma(y) / math.gamma(x + y)

    for share in (limits.low, limits.high):
        ratio = beta(a + 7, b + 13) / beta(a, b) / (share**7 * (1 - share) ** 13)
        assert ratio == pytest.approx(10.0)


@pytest.mark.parametrize("truth", [0.1, 0.5])
def test_the_truth_is_hardly_ever_excluded_at_any_time(truth: float) -> None:
    rng = np.random.default_rng(3)
    looks = range(5, 201, 5)
    sequence_wrong = fixed_wrong = 0
    for _ in range(200):
        seen = np.cumsum(rng.random(200) < truth)
        inside = [confidence_sequence(int(seen[n - 1]), n) for n in looks]
        sequence_wrong += any(not i.low <= truth <= i.high for i in inside)
        rates = [Rate(count=int(seen[n - 1]), n=n) for n in looks]
        fixed_wrong += any(not r.low <= truth <= r.high for r in rates)
    assert sequence_wrong <= 0.05 * 200
    assert fixed_wrong > 0.12 * 200, "the ordinary interval is wrong when looked at often"


def test_it_narrows_and_holds_the_estimate() -> None:
    widths = []
    for n in (10, 100, 1000):
        limits = confidence_sequence(3 * n // 10, n)
        assert limits.low < limits.estimate < limits.high
        widths.append(limits.high - limits.low)
    assert widths[0] > widths[1] > widths[2]


def test_ends() -> None:
    assert confidence_sequence(0, 12).low == 0
    assert confidence_sequence(12, 12).high == 1
    assert confidence_sequence(0, 12).high == pytest.approx(1 - confidence_sequence(12, 12).low)


def test_counts_and_parameters_that_cannot_be() -> None:
    for bad in ((3, 2), (-1, 2)):
        with pytest.raises(BadInput, match="cannot be counted"):
            confidence_sequence(*bad)
    with pytest.raises(BadInput, match="between 0 and 1"):
        confidence_sequence(1, 2, 1.0)
