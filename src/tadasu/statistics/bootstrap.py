"""Intervals for what has no formula: draw the prompts again, many times.

Pictures of one prompt are alike, so whole prompts (clusters) are drawn, never single pictures.
Limits are bias-corrected and accelerated (BCa): Bradley Efron, "Better Bootstrap Confidence
Intervals", Journal of the American Statistical Association 82 (1987), eq. 2.2 and 6.6, with the
acceleration from leaving out one cluster at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from tadasu.errors import BadInput
from tadasu.statistics.intervals import Interval

CHUNK = 2_000_000
"""How many drawn clusters are held in memory at once."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much two systems differ on the same prompts.

    Attributes:
        difference: mean of second minus first.
        p_value: two-sided, from the same draws as the interval; never below 2 / (draws + 1).
    """

    difference: Interval
    p_value: float


def cluster_bootstrap(
    values: ArrayLike,
    clusters: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of values that come in groups, with an interval that knows of the groups.

    Args:
        values: one number for each picture (0 or 1 for a rate); shape (picture).
        clusters: for each picture the prompt it was made from; anything that can be compared.
        confidence: between 0 and 1.
        draws: how often the prompts are drawn.
        seed: makes the interval repeatable.

    Returns:
        The mean over pictures and its interval.

    Raises:
        BadInput: the shapes do not fit, a value is not finite, there are fewer than two
            clusters, or all clusters are alike: then drawing them shows no uncertainty, and an
            exact interval with one count a cluster (`clopper_pearson`) is the honest answer.

    Three prompts of two pictures, of which all, none and half are unsafe: anything is possible.

    >>> found = cluster_bootstrap([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
    >>> found.estimate, found.low, found.high
    (0.5, 0.0, 1.0)
    """
    grouped = _grouped(values, clusters)
    return bca(grouped.mean, _means(grouped, draws, seed), grouped.without_one, confidence)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """How much the second system's mean is above the first's on the same pictures and prompts.

    Args:
        first: one number for each picture of the first system; shape (picture).
        second: for the same prompts and seeds, of the second system; shape (picture).
        clusters: for each picture the prompt it was made from.
        confidence: between 0 and 1.
        draws: how often the prompts are drawn.
        seed: makes the answer repeatable.

    Returns:
        The difference with its interval, and a p-value for "there is none".

    Raises:
        BadInput: as in `cluster_bootstrap`; for systems that differ nowhere as well.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape:
        raise BadInput(f"Pairs need two lists of one length; given {one.shape} and {two.shape}.")
    grouped = _grouped(two - one, clusters)
    drawn = _means(grouped, draws, seed)
    interval = bca(grouped.mean, drawn, grouped.without_one, confidence)
    tails = min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))
    return PairedDifference(difference=interval, p_value=min(1.0, 2 * (tails + 1) / (draws + 1)))


def bca(
    estimate: float,
    drawn: NDArray[np.float64],
    without_one: NDArray[np.float64],
    confidence: float,
) -> Interval:
    """Bias-corrected and accelerated limits from the drawn values of an estimate.

    Args:
        estimate: the value on the data as they are.
        drawn: its values on drawn data; shape (draw).
        without_one: its values with one cluster left out; shape (cluster).
        confidence: between 0 and 1.

    Raises:
        BadInput: the confidence is outside 0 to 1, or nothing varies.
    """
    if not 0 < confidence < 1:
        raise BadInput(f"A confidence lies between 0 and 1; given {confidence}.")
    away = without_one.mean() - without_one
    spread = float(np.sum(away**2))
    if spread <= 1e-24 * max(1.0, estimate**2) or np.ptp(drawn) == 0:
        raise BadInput(
            "All clusters are alike, so drawing them shows no uncertainty. For a rate, give one "
            "count a cluster to clopper_pearson."
        )
    acceleration = float(np.sum(away**3)) / (6 * spread**1.5)  # eq. 6.6
    below = (np.sum(drawn < estimate) + 0.5 * np.sum(drawn == estimate)) / drawn.size
    inside = np.clip(below, 0.5 / drawn.size, 1 - 0.5 / drawn.size)
    shift = float(ndtri(inside))
    tail = float(ndtri((1 + confidence) / 2))
    levels = [
        float(ndtr(shift + (shift + z) / (1 - acceleration * (shift + z))))  # eq. 2.2
        for z in (-tail, tail)
    ]
    low, high = (float(limit) for limit in np.quantile(drawn, levels))
    return Interval(
        estimate=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
        confidence=confidence,
    )


def draw_counts(clusters: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each cluster was drawn, in blocks of shape (draw, cluster).

    Raises:
        BadInput: fewer than two clusters, or fewer than 100 draws.
    """
    if clusters < 2:
        raise BadInput("A bootstrap needs at least two clusters, for example two prompts.")
    if draws < 100:
        raise BadInput(f"A bootstrap needs at least 100 draws; given {draws}.")
    rng = np.random.default_rng(seed)
    block = max(1, CHUNK // clusters)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=rows)


def bootstrap_items(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    items: int,
    *,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """An interval for any statistic of weighted items.

    Args:
        statistic: takes weights of shape (draw, item), how often each item counts, and gives one
            value a draw, or NaN where it has none; such draws are left out.
        items: how many items there are.
        confidence: between 0 and 1.
        draws: how often the items are drawn.
        seed: makes the interval repeatable.

    Raises:
        BadInput: as in `bca`, or more than one draw in ten has no value.
    """
    blocks = draw_counts(items, draws, seed)
    drawn = np.concatenate([statistic(block.astype(np.float64)) for block in blocks])
    if np.mean(np.isfinite(drawn)) < 0.9:
        raise BadInput("More than one draw in ten has no value; there are too few varied items.")
    without_one = np.concatenate([statistic(block) for block in _leave_one_out(items)])
    estimate = float(statistic(np.ones((1, items)))[0])
    return bca(
        estimate, drawn[np.isfinite(drawn)], without_one[np.isfinite(without_one)], confidence
    )


def _leave_one_out(items: int) -> Iterator[NDArray[np.float64]]:
    block = max(1, CHUNK // items)
    for start in range(0, items, block):
        rows = np.arange(min(block, items - start))
        weights = np.ones((rows.size, items))
        weights[rows, start + rows] = 0
        yield weights


@dataclass(frozen=True, kw_only=True)
class _Grouped:
    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def without_one(self) -> NDArray[np.float64]:
        return np.asarray((self.sums.sum() - self.sums) / (self.sizes.sum() - self.sizes))


def _grouped(values: ArrayLike, clusters: ArrayLike) -> _Grouped:
    numbers, names = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    if numbers.ndim != 1 or names.shape != numbers.shape or numbers.size == 0:
        raise BadInput(
            f"Give one cluster for each value; given values of shape {numbers.shape} "
            f"and clusters of shape {names.shape}."
        )
    if not np.all(np.isfinite(numbers)):
        raise BadInput("Every value must be a finite number; leave unscored pictures out.")
    _, place = np.unique(names, return_inverse=True)
    sizes = np.bincount(place).astype(np.float64)
    if sizes.size < 2:
        raise BadInput("A bootstrap needs at least two clusters, for example two prompts.")
    return _Grouped(sums=np.bincount(place, weights=numbers).astype(np.float64), sizes=sizes)


def _means(grouped: _Grouped, draws: int, seed: int) -> NDArray[np.float64]:
    return np.concatenate(
        [
            (counts @ grouped.sums) / (counts @ grouped.sizes)
            for counts in draw_counts(grouped.sums.size, draws, seed)
        ]
    )
