"""Against scikit-learn's forest where it is installed, and by hand where cuts are forced."""

from __future__ import annotations

import numpy as np
import pytest

from tadasu.auditing.isolation_forest import IsolationForest
from tadasu.errors import BadInput


def points(seed: int = 0, count: int = 120) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=(count, 4))


def test_far_points_are_anomalies_on_both_sides() -> None:
    forest = IsolationForest.fit(points(), contamination=0.05)
    far = np.array([[6.0] * 4, [-6.0] * 4, [0.0] * 4])
    assert forest.anomalies(far).tolist() == [True, True, False]


def test_the_share_of_own_anomalies_is_the_contamination() -> None:
    forest = IsolationForest.fit(points(), contamination=0.1)
    assert forest.anomalies(points()).mean() == pytest.approx(0.1, abs=0.02)


def test_it_ranks_like_scikit_learn() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    stats = pytest.importorskip("scipy.stats")
    new = np.random.default_rng(1).normal(size=(80, 4)) * 1.5
    theirs = ensemble.IsolationForest(random_state=42, n_estimators=200).fit(points())
    ours = IsolationForest.fit(points(), trees=200)
    rank = stats.spearmanr(ours.scores(new), -theirs.score_samples(new)).statistic
    assert rank > 0.9
    assert np.abs(ours.scores(new) + theirs.score_samples(new)).mean() < 0.03


def test_two_points_are_one_cut_apart() -> None:
    forest = IsolationForest.fit(np.array([[0.0], [1.0]]), contamination=0.5)
    assert forest.scores(np.array([[0.5]]))[0] == pytest.approx(2 ** -(1 / 1.0))


def test_it_is_deterministic_and_takes_equal_points() -> None:
    one, two = (IsolationForest.fit(points()).scores(points(1)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.isfinite(IsolationForest.fit(np.zeros((9, 3))).scores(np.ones((1, 3)))).all()


def test_one_point_is_no_crowd() -> None:
    with pytest.raises(BadInput):
        IsolationForest.fit(np.zeros((1, 3)))
