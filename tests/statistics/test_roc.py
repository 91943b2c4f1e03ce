"""Areas and thresholds against pair counts, SciPy, scikit-learn's numbers, and by coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tadasu.errors import BadInput
from tadasu.statistics.roc import auroc, auroc_difference, curve, operating_point, tpr_at_fpr


def sample(
    rng: np.random.Generator, positive: int, negative: int, apart: float
) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores, so that the true area is Phi(apart / sqrt 2)."""
    scores = np.concatenate([rng.normal(apart, 1, positive), rng.normal(0, 1, negative)])
    return scores, np.repeat([1, 0], [positive, negative])


def test_the_area_counts_pairs_and_ties_half() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 40), rng.integers(0, 2, 40)
    pairs = [
        float(up > down) + 0.5 * float(up == down)
        for up in scores[labels == 1]
        for down in scores[labels == 0]
    ]
    found = auroc(scores, labels)
    assert found.estimate == pytest.approx(np.mean(pairs))
    u = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert found.estimate == pytest.approx(u / len(pairs))


def test_delongs_variance_from_pairs_one_by_one() -> None:
    scores, labels = sample(np.random.default_rng(1), 12, 17, 1.0)
    wins = (scores[labels == 1][:, None] > scores[labels == 0][None, :]).astype(float)
    area = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / 12 + wins.mean(axis=0).var(ddof=1) / 17
    half = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    found = auroc(scores, labels)
    middle = math.log(area / (1 - area))
    assert found.low == pytest.approx(1 / (1 + math.exp(half - middle)), abs=1e-6)
    assert found.high == pytest.approx(1 / (1 + math.exp(-half - middle)), abs=1e-6)


@pytest.mark.parametrize("apart", [0.5, 2.0])
def test_coverage(apart: float) -> None:
    rng = np.random.default_rng(2)
    truth = stats.norm.cdf(apart / math.sqrt(2))
    hits = []
    for _ in range(500):
        found = auroc(*sample(rng, 30, 50, apart))
        hits.append(found.low <= truth <= found.high)
    assert 0.925 < np.mean(hits) < 0.985


def test_no_error_is_no_certainty() -> None:
    found = auroc([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1])
    assert (found.estimate, found.high) == (1.0, 1.0)
    # Newcombe's method 5: the low limit lies z of its own standard errors below 1.
    low = found.low
    spread = low * (1 - low) * (1 + 2 * (1 - low) / (2 - low) + 2 * low / (1 + low)) / 9
    assert 1 - low == pytest.approx(1.959964 * math.sqrt(spread), abs=1e-6)
    assert 0.4 < low < 0.7
    turned = auroc([1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 0, 0])
    assert (turned.estimate, turned.low) == (0.0, 0.0)
    assert turned.high == pytest.approx(1 - low)
    said_nothing = auroc([1, 1, 1, 1], [0, 0, 1, 1])
    assert said_nothing.estimate == 0.5
    assert said_nothing.low < 0.2 < 0.8 < said_nothing.high


def test_two_scores_are_compared_on_the_same_items() -> None:
    rng = np.random.default_rng(3)
    first, labels = sample(rng, 60, 80, 0.8)
    second = first + 1.5 * labels
    found = auroc_difference(first, second, labels)
    expected = auroc(second, labels).estimate - auroc(first, labels).estimate
    assert found.difference.estimate == pytest.approx(expected)
    assert found.p_value < 0.001
    assert found.difference.low > 0
    with pytest.raises(BadInput, match="order all pairs alike"):
        auroc_difference(first, 2 * first + 1, labels)


def test_without_a_difference_the_p_value_alarms_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(4)
    alarms, covered = [], []
    for _ in range(500):
        shared, labels = sample(rng, 40, 60, 1.0)
        first, second = (shared + rng.normal(0, 1, 100) for _ in range(2))
        found = auroc_difference(first, second, labels)
        alarms.append(found.p_value < 0.05)
        covered.append(found.difference.low <= 0 <= found.difference.high)
    assert 0.025 < np.mean(alarms) < 0.08
    assert np.mean(covered) == pytest.approx(1 - np.mean(alarms))


def test_the_curve_equals_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(0, 9, 60), rng.integers(0, 2, 60)
    false, true, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    found = curve(scores, labels)
    assert found.thresholds[1:].tolist() == pytest.approx(thresholds[1:].tolist())
    assert found.true_positives.tolist() == pytest.approx(true.tolist())
    assert found.false_positives.tolist() == pytest.approx(false.tolist())
    assert auroc(scores, labels).estimate == pytest.approx(metrics.roc_auc_score(labels, scores))


def test_the_curve_by_hand() -> None:
    found = curve([0.9, 0.8, 0.8, 0.1, 0.3], [1, 1, 0, 0, 1])
    assert found.thresholds[1:].tolist() == [0.9, 0.8, 0.3, 0.1]
    assert found.thresholds[0] > 0.9
    assert found.true_positives.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert found.false_positives.tolist() == pytest.approx([0, 0, 0.5, 0.5, 1])


def test_an_operating_point_flags_at_its_threshold() -> None:
    found = operating_point([0.9, 0.8, 0.8, 0.1, 0.3], [1, 1, 0, 0, 1], 0.8)
    assert found.true_positives.estimate == pytest.approx(2 / 3)
    assert found.false_positives.estimate == 0.5
    # Clopper-Pearson for 1 of 2: 1 - sqrt(1 - 0.0253...) on each side.
    assert found.false_positives.low == pytest.approx(1 - math.sqrt(0.975))


def test_the_lowest_threshold_that_keeps_false_positives_rare() -> None:
    scores = [0.95, 0.9, 0.7, 0.5, 0.8, 0.6, 0.4, 0.2]
    labels = [1, 1, 1, 1, 0, 0, 0, 0]
    strict = tpr_at_fpr(scores, labels, 0.0)
    assert (strict.threshold, strict.true_positives.estimate) == (0.9, 0.5)
    loose = tpr_at_fpr(scores, labels, 0.25)
    assert (loose.threshold, loose.true_positives.estimate) == (0.7, 0.75)
    assert loose.false_positives.estimate == 0.25
    nearly = tpr_at_fpr(scores, labels, 0.2499)
    assert nearly.threshold == 0.9
    assert tpr_at_fpr(scores, labels, 1.0).threshold == 0.2


def test_a_negative_on_top_leaves_nothing_to_flag() -> None:
    found = tpr_at_fpr([0.9, 0.9, 0.5, 0.1], [1, 0, 1, 0], 0.0)
    assert found.threshold > 0.9
    assert found.true_positives.estimate == 0.0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2, 0.3], [1, 0, 1], "At least two positive and two negative"),
        ([0.1, 0.2], [1, 0, 1], "one label for each score"),
        ([0.1, math.nan, 0.2, 0.3], [1, 0, 1, 0], "finite"),
        ([0.1, 0.2, 0.3, 0.4], [1, 0, 2, 0], "1 for a positive or 0"),
        ([], [], "At least two"),
    ],
)
def test_what_has_no_area(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        auroc(scores, labels)


def test_parameters_that_mean_nothing_are_refused() -> None:
    scores, labels = [0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1]
    with pytest.raises(BadInput, match="confidence"):
        auroc(scores, labels, confidence=95)
    with pytest.raises(BadInput, match="false positive rate"):
        tpr_at_fpr(scores, labels, 1.5)
