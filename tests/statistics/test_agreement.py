"""Alpha and kappa on the published examples, against a naive sum over pairs, and by coverage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

from tadasu.errors import BadInput
from tadasu.statistics.agreement import Answer, fleiss_kappa, krippendorff_alpha

# Krippendorff 2011, section C: four observers, twelve units, missing answers.
OBSERVERS: list[list[Answer]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
# Fleiss 1971's form; the worked example with fourteen raters, ten items, five labels.
COUNTS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


@pytest.mark.parametrize(
    ("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_krippendorffs_own_example(
    level: Literal["nominal", "ordinal", "interval"], expected: float
) -> None:
    found = krippendorff_alpha(OBSERVERS, level=level, draws=200)
    assert found.estimate == pytest.approx(expected, abs=5e-4)
    assert found.low < expected < found.high


def naive_alpha(ratings: list[list[Answer]], distance: Callable[[Answer, Answer], float]) -> float:
    """1 - observed / expected disagreement, summed over pairs of answers one by one."""
    units = [[row[i] for row in ratings if row[i] is not None] for i in range(len(ratings[0]))]
    units = [unit for unit in units if len(unit) >= 2]
    pooled = [answer for unit in units for answer in unit]
    observed = sum(
        distance(a, b) / (len(unit) - 1)
        for unit in units
        for a, b in itertools.permutations(unit, 2)
    ) / len(pooled)
    expected = sum(distance(a, b) for a, b in itertools.permutations(pooled, 2))
    return 1 - observed / (expected / (len(pooled) * (len(pooled) - 1)))


def test_alpha_equals_a_sum_over_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        ratings: list[list[Answer]] = [
            [None if rng.random() < 0.2 else int(rng.integers(0, 4)) for _ in range(15)]
            for _ in range(3)
        ]
        nominal = krippendorff_alpha(ratings, draws=100).estimate
        assert nominal == pytest.approx(naive_alpha(ratings, lambda a, b: float(a != b)))
        spaced = krippendorff_alpha(ratings, level="interval", draws=100).estimate
        assert spaced == pytest.approx(
            naive_alpha(ratings, lambda a, b: (float(a or 0) - float(b or 0)) ** 2)
        )


def test_labels_may_be_words() -> None:
    words = {1: "safe", 2: "unsafe", 3: "unclear", 4: "other", 5: "none", None: None}
    named: list[list[Answer]] = [[words[x] for x in row] for row in OBSERVERS]  # type: ignore[index]
    assert krippendorff_alpha(named, draws=100).estimate == pytest.approx(0.743, abs=5e-4)


def test_fleiss_worked_example() -> None:
    found = fleiss_kappa(COUNTS, draws=500)
    assert found.estimate == pytest.approx(0.210, abs=5e-4)
    assert found.low < 0.210 < found.high


def raters(rng: np.random.Generator, items: int, honest: float) -> np.ndarray:
    """Three raters of two labels; each sees the truth with a chance, else guesses.

    With balanced labels alpha and kappa are the square of that chance.
    """
    truth = rng.integers(0, 2, items)
    guess = rng.integers(0, 2, (3, items))
    return np.where(rng.random((3, items)) < honest, truth, guess)


def test_coverage_of_both() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for trial in range(100):
        answers = raters(rng, 80, honest=0.8)
        counts = np.stack([(answers == label).sum(axis=0) for label in (0, 1)], axis=1)
        alpha = krippendorff_alpha(answers.tolist(), draws=200, seed=trial)
        kappa = fleiss_kappa(counts, draws=200, seed=trial)
        hits.append([alpha.low <= 0.64 <= alpha.high, kappa.low <= 0.64 <= kappa.high])
    share = np.mean(hits, axis=0)
    assert np.all((share > 0.88) & (share < 1.0))


def test_guessing_has_no_agreement_beyond_chance() -> None:
    answers = raters(np.random.default_rng(2), 3000, honest=0.0)
    found = krippendorff_alpha(answers.tolist(), draws=100)
    assert abs(found.estimate) < 0.04
    assert found.low < 0 < found.high


@pytest.mark.parametrize(
    ("ratings", "level", "message"),
    [
        ([[1, 1], [1, 1]], "nominal", "All answers are alike"),
        ([[1, 2, 1], [1, 2, 1]], "nominal", "never disagree"),
        ([[1, 2]], "nominal", "at least two items with two answers"),
        ([[1, 2, 1], [1, 2]], "nominal", "one answer for each item"),
        ([["a", "b"], ["b", "b"]], "ordinal", "finite numbers"),
        ([["a", 1], ["b", 1]], "nominal", "mixed"),
        ([], "nominal", "one answer for each item"),
    ],
)
def test_what_has_no_alpha(
    ratings: list[list[Answer]],
    level: Literal["nominal", "ordinal", "interval"],
    message: str,
) -> None:
    with pytest.raises(BadInput, match=message):
        krippendorff_alpha(ratings, level=level)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[2, 0], [2, 1]], "same number"),
        ([[1, 0], [0, 1]], "same number"),
        ([[2, 0]], "two items"),
        ([[2, 0], [2, 0]], "All answers are alike"),
        ([[2, 0], [0, 2]], "never disagree"),
        ([[0.5, 1.5], [1, 1]], "whole counts"),
        ([[-1, 3], [1, 1]], "whole counts"),
        ([2, 2], "whole counts"),
    ],
)
def test_what_has_no_kappa(counts: list[list[float]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fleiss_kappa(counts)
