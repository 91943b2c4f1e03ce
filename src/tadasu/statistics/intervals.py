"""Intervals for shares: k of n pictures were unsafe; what does that say about the next ones?

Wilson: Edwin B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
Journal of the American Statistical Association 22 (1927). Clopper and Pearson: "The Use of
Confidence or Fiducial Limits Illustrated in the Case of the Binomial", Biometrika 26 (1934).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import betaincinv, ndtri

from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the limits between which the truth lies, as far as chance alone goes.

    Attributes:
        estimate: the measured value; not-a-number where nothing was measured.
        low: lower limit.
        high: upper limit.
        confidence: how often such limits hold the truth, above 0 and below 1.
    """

    estimate: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share with its Wilson 95 % interval.

    Args:
        count: how many of them.
        n: of how many.

    Raises:
        BadInput: counts that cannot be.

    >>> rate = Rate(count=3, n=10)
    >>> round(rate.low, 3), round(rate.high, 3)
    (0.108, 0.603)
    """

    count: int
    n: int

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        _check(self.count, self.n, 0.95)

    @property
    def value(self) -> float:
        """The share, from 0 to 1; not-a-number for n = 0."""
        return self.count / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """Lower limit."""
        return wilson(self.count, self.n).low

    @property
    def high(self) -> float:
        """Upper limit."""
        return wilson(self.count, self.n).high

    def as_json(self) -> dict[str, float | int | None]:
        """For records and ``--json``; the value is None for n = 0."""
        value = self.value if self.n else None
        return {
            "value": value,
            "low": self.low,
            "high": self.high,
            "count": self.count,
            "n": self.n,
        }


def wilson(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval: right on average, also for shares near 0 and 1.

    Args:
        count: how many of them.
        n: of how many; for 0 the limits are 0 and 1.
        confidence: above 0 and below 1.

    Raises:
        BadInput: counts that cannot be, or a confidence out of range.

    >>> found = wilson(0, 20)
    >>> found.low, round(found.high, 4)
    (0.0, 0.1611)
    """
    _check(count, n, confidence)
    if n == 0:
        return Interval(estimate=math.nan, low=0.0, high=1.0, confidence=confidence)
    z2 = float(ndtri((1 + confidence) / 2)) ** 2
    share = count / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2) / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if count == 0 else max(centre - half, 0.0)
    high = 1.0 if count == n else min(centre + half, 1.0)
    return Interval(estimate=share, low=low, high=high, confidence=confidence)


def clopper_pearson(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """The exact interval: never right less often than it says, so wider than Wilson's.

    Args:
        count: how many of them.
        n: of how many; for 0 the limits are 0 and 1.
        confidence: above 0 and below 1.

    Raises:
        BadInput: counts that cannot be, or a confidence out of range.

    >>> found = clopper_pearson(0, 20)
    >>> found.low, round(found.high, 4)
    (0.0, 0.1684)
    """
    _check(count, n, confidence)
    if n == 0:
        return Interval(estimate=math.nan, low=0.0, high=1.0, confidence=confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(betaincinv(count + 1, n - count, 1 - tail))
    return Interval(estimate=count / n, low=low, high=high, confidence=confidence)


def _check(count: int, n: int, confidence: float) -> None:
    if n < 0 or not 0 <= count <= n:
        raise BadInput(f"{count} of {n} is no share; expected 0 <= count <= n.")
    if not 0 < confidence < 1:
        raise BadInput(f"A confidence must be above 0 and below 1; given {confidence}.")
