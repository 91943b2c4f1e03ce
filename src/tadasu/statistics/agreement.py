"""How far people (or judges) agree beyond chance, with an interval.

Krippendorff's alpha: Klaus Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011,
sections B to D; any number of raters, missing answers, and nominal, ordinal or interval answers.
Fleiss' kappa: Joseph Fleiss, "Measuring Nominal Scale Agreement Among Many Raters",
Psychological Bulletin 76 (1971); every item rated equally often.
Intervals draw items again (`tadasu.statistics.bootstrap`), as raters see the same items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tadasu.errors import BadInput
from tadasu.statistics.bootstrap import bootstrap_items
from tadasu.statistics.intervals import Interval

Answer = str | int | float | bool | None


def krippendorff_alpha(
    ratings: Sequence[Sequence[Answer]],
    *,
    level: Literal["nominal", "ordinal", "interval"] = "nominal",
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Krippendorff's alpha: 1 is perfect agreement, 0 what chance would give, below 0 worse.

    Args:
        ratings: one row for each rater with one answer for each item; None where there is none.
        level: ``"nominal"`` for labels without order, ``"ordinal"`` for ranks, ``"interval"`` for
            numbers whose distances count.
        confidence: between 0 and 1.
        draws: how often the items are drawn.
        seed: makes the interval repeatable.

    Raises:
        BadInput: rows of different lengths, fewer than two items with two answers, answers that
            are no numbers where numbers are needed, all answers alike (alpha is not defined), or
            no disagreement at all (there is no uncertainty to draw).

    >>> found = krippendorff_alpha([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])
    >>> round(found.estimate, 3)   # the example of Krippendorff's section B
    0.095
    """
    counts, values = _counted(ratings, numeric=level != "nominal")
    pairs = _coincidences(counts)

    def alpha(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        together = np.tensordot(weights, pairs, axes=1)
        totals = together.sum(axis=2)
        distance = _distance(level, values, totals)
        expected = np.einsum("di,dij,dj->d", totals, distance, totals)
        observed = np.sum(together * distance, axis=(1, 2)) * (totals.sum(axis=1) - 1)
        return np.asarray(1 - np.divide(observed, expected, where=expected > 0, out=_none(weights)))

    _check_varied(float(alpha(np.ones((1, len(pairs))))[0]))
    return bootstrap_items(alpha, len(pairs), confidence=confidence, draws=draws, seed=seed)


def fleiss_kappa(
    counts: ArrayLike, *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Fleiss' kappa: 1 is perfect agreement, 0 what chance would give, below 0 worse.

    Args:
        counts: for each item how many raters chose each label; shape (item, label), with the same
            number of raters for every item.
        confidence: between 0 and 1.
        draws: how often the items are drawn.
        seed: makes the interval repeatable.

    Raises:
        BadInput: counts that are no whole numbers, items rated unequally often or once, all
            answers alike (kappa is not defined), or no disagreement at all.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or np.any(table < 0) or np.any(table != np.rint(table)):
        raise BadInput("Fleiss' kappa needs whole counts in a table of items by labels.")
    raters = table.sum(axis=1)
    if table.shape[0] < 2 or raters.min() < 2 or raters.min() != raters.max():
        raise BadInput(
            "Fleiss' kappa needs two items or more, all rated by the same number of two raters or "
            "more; krippendorff_alpha takes missing answers."
        )
    agreed = (np.sum(table**2, axis=1) - raters) / (raters * (raters - 1))

    def kappa(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = weights @ table / (weights @ raters)[:, None]
        by_chance = np.sum(shares**2, axis=1)
        beyond = weights @ agreed / weights.sum(axis=1) - by_chance
        varied = by_chance < 1 - 1e-12
        return np.asarray(np.divide(beyond, 1 - by_chance, where=varied, out=_none(weights)))

    _check_varied(float(kappa(np.ones((1, len(table))))[0]))
    return bootstrap_items(kappa, len(table), confidence=confidence, draws=draws, seed=seed)


def _check_varied(agreement: float) -> None:
    if not np.isfinite(agreement):
        raise BadInput("All answers are alike, so agreement beyond chance is not defined.")
    if agreement >= 1 - 1e-12:
        raise BadInput(
            "The raters never disagree, so drawing items shows no uncertainty; give the share of "
            "agreed items an exact interval (clopper_pearson)."
        )


def _counted(
    ratings: Sequence[Sequence[Answer]], *, numeric: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each item with two answers or more how often each value was given; and the values."""
    if len({len(row) for row in ratings}) != 1:
        raise BadInput("Every rater needs one answer for each item, None where there is none.")
    given = [answer for row in ratings for answer in row if not _missing(answer)]
    if numeric and not all(isinstance(x, int | float) and np.isfinite(x) for x in given):
        raise BadInput("Ordinal and interval answers must be finite numbers.")
    kinds = {type(x) if isinstance(x, str) else float for x in given}
    if len(kinds) > 1:
        raise BadInput("Answers must be all texts or all numbers; these are mixed.")
    known = sorted(set(given), key=lambda x: x if isinstance(x, str) else float(x or 0))
    place = {value: i for i, value in enumerate(known)}
    counts = np.zeros((len(ratings[0]), len(known)))
    for row in ratings:
        for item, answer in enumerate(row):
            if not _missing(answer):
                counts[item, place[answer]] += 1
    counts = counts[counts.sum(axis=1) >= 2]
    if len(counts) < 2:
        raise BadInput("Agreement needs at least two items with two answers each.")
    values = np.array(known if numeric else range(len(known)), dtype=np.float64)
    return counts, values


def _missing(answer: Answer) -> bool:
    return answer is None or (isinstance(answer, float) and np.isnan(answer))


def _coincidences(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each item the pairs of values that two raters gave it; shape (item, value, value)."""
    answers = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs -= counts[:, :, None] * np.eye(counts.shape[1])
    return np.asarray(pairs / (answers - 1)[:, None, None])


def _distance(
    level: Literal["nominal", "ordinal", "interval"],
    values: NDArray[np.float64],
    totals: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Squared differences between values, shape (draw, value, value).

    Those between ranks depend on how often each was given, so on the draw.
    """
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(values.size), (len(totals), values.size, values.size))
    places = np.broadcast_to(values, totals.shape)
    if level == "ordinal":
        places = np.cumsum(totals, axis=1) - totals / 2
    return np.asarray((places[:, :, None] - places[:, None, :]) ** 2)


def _none(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """One NaN a draw: the value of a statistic that is not defined there."""
    return np.full(len(weights), np.nan)
