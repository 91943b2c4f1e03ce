"""Temperatures and calibration errors that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, softmax

from tadasu.errors import BadInput
from tadasu.statistics.calibration import expected_calibration_error, temperature


def test_the_temperature_that_made_the_labels_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000)
    labels = rng.random(20_000) < expit(logits / 2.5)
    assert temperature(logits, labels) == pytest.approx(2.5, rel=0.05)
    many = rng.normal(0, 3, (20_000, 4))
    chances = softmax(many / 0.6, axis=1).cumsum(axis=1)
    classes = (rng.random((20_000, 1)) > chances).sum(axis=1)
    assert temperature(many, classes) == pytest.approx(0.6, rel=0.05)


def test_two_classes_are_the_same_in_both_shapes() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, 500)
    labels = (rng.random(500) < expit(logits / 1.7)).astype(int)
    pairs = np.stack([np.zeros(500), logits], axis=1)
    assert temperature(logits, labels) == pytest.approx(temperature(pairs, labels), rel=1e-5)


def test_the_found_temperature_is_the_best_on_a_grid() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 2, 300), rng.integers(0, 2, 300)
    labels[logits > 0.5] = 1

    def loss(heat: float) -> float:
        chances = expit(logits / heat)
        return -float(np.mean(np.log(np.where(labels == 1, chances, 1 - chances))))

    grid = np.exp(np.linspace(-2, 3, 2000))
    best = grid[np.argmin([loss(heat) for heat in grid])]
    assert temperature(logits, labels) == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([1.0, 2.0, -1.0], [1, 1, 0], "separate the labels without error"),
        ([1.0, 1.0, -1.0, -1.0], [0, 1, 0, 1], "say nothing"),
        ([1.0, 2.0], [1, 1], "at least two classes"),
        ([1.0, math.nan], [1, 0], "finite"),
        ([1.0], [1, 0], "one label for each item"),
        ([1.0, 2.0], [1, 2], "from 0 to 1"),
        ([[1.0, 2.0, 0.0]], [3], "from 0 to 2"),
        ([], [], "one label for each item"),
    ],
)
def test_what_cannot_be_calibrated(logits: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        temperature(logits, labels)


def test_the_error_is_the_weighted_gap_of_the_bins() -> None:
    # 0.2 three times with one positive: |1/3 - 0.2|; 0.7 once, negative: 0.7.
    found = expected_calibration_error([0.2, 0.2, 0.2, 0.7], [0, 0, 1, 0], bins=2)
    assert found == pytest.approx((3 * abs(1 / 3 - 0.2) + 0.7) / 4)
    assert expected_calibration_error([0.2, 0.7], [0, 1], bins=1) == pytest.approx(0.05)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0.0


def test_with_more_classes_the_winner_is_judged() -> None:
    chances = [[0.6, 0.3, 0.1], [0.1, 0.6, 0.3]]
    assert expected_calibration_error(chances, [0, 2], bins=5) == pytest.approx(abs(0.5 - 0.6))


def test_calibrated_scores_have_nearly_no_error_and_hot_ones_have() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 50_000)
    labels = (rng.random(50_000) < expit(logits)).astype(int)
    assert expected_calibration_error(expit(logits), labels) < 0.01
    assert expected_calibration_error(expit(3 * logits), labels) > 0.08


@pytest.mark.parametrize(
    ("chances", "labels", "bins"), [([1.2], [1], 5), ([0.5], [1], 0), ([-0.1], [0], 5)]
)
def test_what_is_no_probability(chances: list[float], labels: list[int], bins: int) -> None:
    with pytest.raises(BadInput):
        expected_calibration_error(chances, labels, bins=bins)
