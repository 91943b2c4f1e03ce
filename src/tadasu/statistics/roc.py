"""How well a score tells two kinds apart, and which threshold does what.

Interval of the area: Elizabeth DeLong, David DeLong, Daniel Clarke-Pearson, "Comparing the Areas
under Two or More Correlated Receiver Operating Characteristic Curves", Biometrics 44 (1988), on
the logit scale, so that it stays inside 0 to 1. Where we depart: a score that separates without
error has no DeLong variance; its interval is Robert Newcombe's method 5 ("Confidence intervals
for an effect size measure based on the Mann-Whitney statistic, part 2", Statistics in Medicine
25, 2006), whose variance depends on the limit itself and never vanishes.
Everywhere a score at the threshold counts as flagged, and higher means positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from tadasu.errors import BadInput
from tadasu.statistics.intervals import Interval, clopper_pearson


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a threshold does.

    Attributes:
        threshold: scores from here on are flagged.
        true_positives: share of the positive items that are flagged, Clopper-Pearson.
        false_positives: share of the negative items that are flagged, Clopper-Pearson.
    """

    threshold: float
    true_positives: Interval
    false_positives: Interval


@dataclass(frozen=True, kw_only=True)
class Curve:
    """All that thresholds can do; from flagging nothing to flagging everything.

    Attributes:
        thresholds: falling, the first above every score; shape (point).
        true_positives: share of the positive items flagged; shape (point).
        false_positives: share of the negative items flagged; shape (point).
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.float64]
    false_positives: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AreaDifference:
    """How two scores compare on the same items.

    Attributes:
        difference: area of the second minus that of the first, from -1 to 1.
        p_value: two-sided, for "there is no difference".
    """

    difference: Interval
    p_value: float


def auroc(scores: ArrayLike, labels: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """The chance that a positive item scores above a negative one; ties count half.

    Args:
        scores: higher means positive; shape (item).
        labels: 1 for positive and 0 for negative items; shape (item).
        confidence: between 0 and 1.

    Returns:
        The area under the receiver operating characteristic; 0.5 is chance, 1 is no error.

    Raises:
        BadInput: shapes that do not fit, a score that is not finite, a label other than 0 and 1,
            or fewer than two items of a kind.

    >>> found = auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])   # 3 of 4 pairs are in order
    >>> found.estimate
    0.75
    """
    positive, negative = _split(scores, labels)
    tail = _tail(confidence)
    above_negative, above_positive = _components(positive, negative)
    area = float(above_negative.mean())
    variance = float(
        above_negative.var(ddof=1) / positive.size + above_positive.var(ddof=1) / negative.size
    )
    if variance > 0 and 0 < area < 1:
        half = tail * math.sqrt(variance) / (area * (1 - area))
        low, high = (float(expit(logit(area) + side * half)) for side in (-1, 1))
    else:
        low, high = _newcombe(area, positive.size, negative.size, tail)
    return Interval(estimate=area, low=low, high=high, confidence=confidence)


def auroc_difference(
    first: ArrayLike, second: ArrayLike, labels: ArrayLike, *, confidence: float = 0.95
) -> AreaDifference:
    """Whether the second score tells the kinds apart better than the first, on the same items.

    Args:
        first: scores of one detector; shape (item).
        second: scores of the other, for the same items; shape (item).
        labels: 1 for positive and 0 for negative items; shape (item).
        confidence: between 0 and 1.

    Raises:
        BadInput: as in `auroc`, or the two scores order all pairs alike.
    """
    tail = _tail(confidence)
    one, two = (_components(*_split(scores, labels)) for scores in (first, second))
    by_positive, by_negative = two[0] - one[0], two[1] - one[1]
    difference = float(by_positive.mean())
    spread = math.sqrt(
        by_positive.var(ddof=1) / by_positive.size + by_negative.var(ddof=1) / by_negative.size
    )
    if spread == 0:
        raise BadInput("The two scores order all pairs alike; there is no difference to test.")
    return AreaDifference(
        difference=Interval(
            estimate=difference,
            low=max(difference - tail * spread, -1.0),
            high=min(difference + tail * spread, 1.0),
            confidence=confidence,
        ),
        p_value=float(2 * ndtr(-abs(difference) / spread)),
    )


def curve(scores: ArrayLike, labels: ArrayLike) -> Curve:
    """What every threshold does.

    Raises:
        BadInput: as in `auroc`.
    """
    positive, negative = _split(scores, labels)
    known = np.unique(np.concatenate([positive, negative]))[::-1]
    thresholds = np.concatenate([[np.nextafter(known[0], np.inf)], known])
    return Curve(
        thresholds=thresholds,
        true_positives=_flagged(positive, thresholds),
        false_positives=_flagged(negative, thresholds),
    )


def operating_point(
    scores: ArrayLike, labels: ArrayLike, threshold: float, *, confidence: float = 0.95
) -> OperatingPoint:
    """What one threshold does, with intervals.

    Raises:
        BadInput: as in `auroc`.
    """
    positive, negative = _split(scores, labels)
    return OperatingPoint(
        threshold=float(threshold),
        true_positives=_share(positive, threshold, confidence),
        false_positives=_share(negative, threshold, confidence),
    )


def tpr_at_fpr(
    scores: ArrayLike, labels: ArrayLike, fpr: float, *, confidence: float = 0.95
) -> OperatingPoint:
    """The lowest threshold that flags at most a given share of the negative items.

    The threshold is chosen on these items, so the false positives' interval is not a promise
    about new ones; measure it again on others.

    Args:
        scores: higher means positive; shape (item).
        labels: 1 for positive and 0 for negative items; shape (item).
        fpr: the largest share of negative items to flag, from 0 to 1.
        confidence: between 0 and 1.

    Raises:
        BadInput: as in `auroc`, or a share outside 0 to 1.
    """
    if not 0 <= fpr <= 1:
        raise BadInput(f"A false positive rate lies between 0 and 1; given {fpr}.")
    points = curve(scores, labels)
    allowed = points.thresholds[points.false_positives <= fpr]
    return operating_point(scores, labels, float(allowed[-1]), confidence=confidence)


def _split(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or truth.shape != values.shape:
        raise BadInput(
            f"Give one label for each score; given scores of shape {values.shape} and labels of "
            f"shape {truth.shape}."
        )
    if not np.all(np.isfinite(values)):
        raise BadInput("Every score must be a finite number; leave unscored items out.")
    if not np.all(np.isin(truth, (0, 1))):
        raise BadInput("Every label must be 1 for a positive or 0 for a negative item.")
    positive, negative = values[truth == 1], values[truth == 0]
    if min(positive.size, negative.size) < 2:
        raise BadInput(
            f"At least two positive and two negative items are needed; given {positive.size} "
            f"and {negative.size}."
        )
    return positive, negative


def _components(
    positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """DeLong's structural components: for each item the share of the other kind it stands right of.

    Ranks give them in n log n: the rank among all less the rank among its own kind counts the
    items of the other kind below, with ties as one half.
    """
    everything = rankdata(np.concatenate([positive, negative]))
    of_positive = everything[: positive.size] - rankdata(positive)
    of_negative = everything[positive.size :] - rankdata(negative)
    return of_positive / negative.size, 1 - of_negative / positive.size


def _newcombe(area: float, positive: int, negative: int, tail: float) -> tuple[float, float]:
    half = (positive + negative) / 2 - 1

    def beyond(limit: float) -> float:
        spread = limit * (1 - limit) / (positive * negative)
        spread *= 1 + half * (1 - limit) / (2 - limit) + half * limit / (1 + limit)
        return abs(area - limit) - tail * math.sqrt(spread)

    low = 0.0 if area == 0 or beyond(0.0) <= 0 else float(brentq(beyond, 0.0, area - 1e-12))
    high = 1.0 if area == 1 or beyond(1.0) <= 0 else float(brentq(beyond, area + 1e-12, 1.0))
    return low, high


def _flagged(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.asarray(1 - below / scores.size)


def _share(scores: NDArray[np.float64], threshold: float, confidence: float) -> Interval:
    return clopper_pearson(int(np.sum(scores >= threshold)), scores.size, confidence=confidence)


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise BadInput(f"A confidence lies between 0 and 1; given {confidence}.")
    return float(ndtri((1 + confidence) / 2))
