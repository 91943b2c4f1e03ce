"""Strengths from preferences: by hand, by likelihood, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from tadasu.errors import BadInput
from tadasu.statistics.bradley_terry import bradley_terry


def test_it_is_the_maximum_of_the_likelihood() -> None:
    wins = np.array([[0, 7, 4], [3, 0, 5.5], [1, 4.5, 0]])

    def loss(free: np.ndarray) -> float:
        s = np.append(free, -free.sum())
        return float(np.sum(wins * np.log1p(np.exp(s[None, :] - s[:, None]))))

    best = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(bradley_terry(wins), np.append(best, -best.sum()), atol=1e-6)


def test_simulated_strengths_come_back() -> None:
    rng = np.random.default_rng(0)
    true = np.array([0.8, 0.1, -0.9])
    chance = 1 / (1 + np.exp(true[None, :] - true[:, None]))
    wins = np.zeros((3, 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        wins[i, j] = rng.binomial(20_000, chance[i, j])
        wins[j, i] = 20_000 - wins[i, j]
    np.testing.assert_allclose(bradley_terry(wins), true, atol=0.04)


@pytest.mark.parametrize(
    "wins",
    [
        [[0, 5], [0, 0]],
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
        [[1, 1], [1, 0]],
        [[0, -1], [1, 0]],
        [[0, 1, 2]],
        [[0, np.nan], [1, 0]],
    ],
)
def test_what_has_no_answer_is_refused(wins: list[list[float]]) -> None:
    with pytest.raises(BadInput):
        bradley_terry(wins)
