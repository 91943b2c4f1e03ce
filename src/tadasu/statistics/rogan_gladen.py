"""How many pictures are really unsafe, when the judge that counted them errs.

Point: Walter Rogan and Beth Gladen, "Estimating Prevalence from the Results of a Screening
Test", American Journal of Epidemiology 107 (1978). Interval: Zsolt Lang and Jenő Reiczigel,
"Confidence limits for prevalence of disease adjusted for estimated sensitivity and specificity",
Preventive Veterinary Medicine 113 (2014), section 2.2; it counts in that the error rates were
measured on finitely many pictures. Where we depart: limits never exclude the point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtri

from tadasu.errors import BadInput
from tadasu.statistics.intervals import Interval


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """What was counted when a judge was tried on pictures with known answers.

    Args:
        caught: unsafe pictures that it flagged.
        unsafe: unsafe pictures that it saw.
        passed: safe pictures that it did not flag.
        safe: safe pictures that it saw.

    Raises:
        BadInput: counts that do not fit each other, or a judge no better than chance.
    """

    caught: int
    unsafe: int
    passed: int
    safe: int

    def __post_init__(self) -> None:
        """Refuse counts that cannot be, and judges that cannot be corrected for."""
        _check(self.caught, self.unsafe, "unsafe pictures caught")
        _check(self.passed, self.safe, "safe pictures passed")
        if self.sensitivity + self.specificity <= 1:
            raise BadInput(
                f"A judge with sensitivity {self.sensitivity:.3f} and specificity "
                f"{self.specificity:.3f} is no better than chance; nothing can be corrected."
            )

    @property
    def sensitivity(self) -> float:
        """The share of unsafe pictures that it flags."""
        return self.caught / self.unsafe

    @property
    def specificity(self) -> float:
        """The share of safe pictures that it lets pass."""
        return self.passed / self.safe


def rogan_gladen(
    flagged: int, total: int, judge: ErrorRates, *, confidence: float = 0.95
) -> Interval:
    """The share of unsafe pictures, corrected for the judge's errors.

    Args:
        flagged: how many pictures the judge flagged.
        total: how many pictures it saw.
        judge: its errors, counted on other pictures of the same kind.
        confidence: between 0 and 1.

    Returns:
        The corrected share from 0 to 1 and its interval.

    Raises:
        BadInput: counts that do not fit each other, or a confidence outside 0 to 1.

    A judge that catches 90 of 100 and lets 80 of 100 pass flags 41 of 100 pictures when 30 are
    unsafe: 0.3 x 0.9 + 0.7 x 0.2 = 0.41.

    >>> judge = ErrorRates(caught=90, unsafe=100, passed=80, safe=100)
    >>> found = rogan_gladen(41, 100, judge)
    >>> round(found.estimate, 6), round(found.low, 3), round(found.high, 3)
    (0.3, 0.134, 0.457)
    """
    _check(flagged, total, "pictures flagged")
    if not 0 < confidence < 1:
        raise BadInput(f"A confidence lies between 0 and 1; given {confidence}.")
    point = _corrected(flagged / total, judge.sensitivity, judge.specificity)
    low, high = _limits(flagged, total, judge, float(ndtri((1 + confidence) / 2)))
    estimate = min(max(point, 0.0), 1.0)
    return Interval(
        estimate=estimate, low=min(low, estimate), high=max(high, estimate), confidence=confidence
    )


def _limits(flagged: int, total: int, judge: ErrorRates, z: float) -> tuple[float, float]:
    n = total + z**2
    p = (flagged + z**2 / 2) / n
    n_se, n_sp = judge.unsafe + 2, judge.safe + 2
    se, sp = (judge.caught + 1) / n_se, (judge.passed + 1) / n_sp
    if se + sp <= 1:  # so few pictures that the judge may be no better than chance
        return 0.0, 1.0
    point = _corrected(p, se, sp)
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * z**2 * (point * of_se - (1 - point) * of_sp)
    spread = math.sqrt(p * (1 - p) / n + point**2 * of_se + (1 - point) ** 2 * of_sp)
    half = z * spread / (se + sp - 1)
    low, high = point + shift - half, point + shift + half
    return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)


def _corrected(share: float, sensitivity: float, specificity: float) -> float:
    return (share + specificity - 1) / (sensitivity + specificity - 1)


def _check(part: int, whole: int, what: str) -> None:
    if not (0 <= part <= whole and whole > 0):
        raise BadInput(f"Counts of {what} must be 0 to the whole; given {part} of {whole}.")
