"""Intervals for a share that may be looked at after every sample.

An ordinary 95 % interval is right for one look at a sample size fixed beforehand; whoever looks
after every batch and stops when he likes what he sees is wrong far more often. A confidence
sequence holds at all sample sizes at once. This one is the beta-binomial mixture (Robbins 1970;
Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 49, 2021, section 3.2 for the method of mixtures):

    { p :  B(a + k, b + n - k) / B(a, b)  <  pᵏ (1 - p)ⁿ⁻ᵏ / α }

By Ville's inequality the truth ever leaves it with probability at most α.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

from tadasu.errors import BadInput
from tadasu.statistics.intervals import Interval


def confidence_sequence(
    count: int, n: int, confidence: float = 0.95, *, around: float = 0.5, width: float = 2.0
) -> Interval:
    """Limits for a share that hold at every sample size at once.

    Args:
        count: how many of them.
        n: of how many so far.
        confidence: of never having excluded the truth, above 0 and below 1.
        around: share at which the limits are tightest, above 0 and below 1.
        width: weight of that guess in samples; small is wide at first and tight later.

    Raises:
        BadInput: counts or parameters that cannot be.

    >>> limits = confidence_sequence(30, 100)
    >>> round(limits.low, 2), round(limits.high, 2)
    (0.17, 0.46)
    >>> confidence_sequence(0, 0).low, confidence_sequence(0, 0).high
    (0.0, 1.0)
    """
    if not 0 <= count <= n:
        raise BadInput(f"{count} of {n} cannot be counted.")
    if not (0 < confidence < 1 and 0 < around < 1 and width > 0):
        raise BadInput("confidence and around are between 0 and 1, width is above 0.")
    if n == 0:
        return Interval(estimate=math.nan, low=0.0, high=1.0, confidence=confidence)
    a, b = width * around, width * (1 - around)
    mixed = betaln(a + count, b + n - count) - betaln(a, b)
    limit = -math.log(1 - confidence)

    def excess(share: float) -> float:
        """Above 0 where the share is excluded."""
        likelihood = xlogy(count, share) + xlog1py(n - count, -share)
        return float(mixed - likelihood) - limit

    best = count / n
    low = 0.0 if count == 0 else float(brentq(excess, 1e-300, best))
    high = 1.0 if count == n else float(brentq(excess, best, 1 - 1e-16))
    return Interval(estimate=best, low=low, high=high, confidence=confidence)
