"""Bootstraps against SciPy's, against every possible draw, and by coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tadasu.errors import BadInput
from tadasu.statistics.bootstrap import (
    bca,
    bootstrap_items,
    cluster_bootstrap,
    draw_counts,
    paired_bootstrap,
)


def test_clusters_of_one_agree_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=40)
    ours = cluster_bootstrap(values, np.arange(40), draws=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_draws_have_the_distribution_of_all_possible_draws() -> None:
    sums, sizes = np.array([2.0, 0.0, 3.0]), np.array([2.0, 1.0, 5.0])
    every = [
        sums[list(each)].sum() / sizes[list(each)].sum()
        for each in itertools.product(range(3), repeat=3)
    ]
    counts = np.concatenate(list(draw_counts(3, 40_000, seed=0)))
    drawn = (counts @ sums) / (counts @ sizes)
    assert counts.sum(axis=1).tolist() == [3] * 40_000
    for value in set(every):
        share = every.count(value) / len(every)
        assert np.mean(np.isclose(drawn, value)) == pytest.approx(share, abs=0.01)


def test_bca_by_hand() -> None:
    # Symmetric draws around the estimate and no skew: the plain percentiles.
    drawn = np.linspace(-1, 1, 10_001)
    found = bca(0.0, drawn, np.array([-1.0, 1.0]), 0.9)
    assert (found.low, found.high) == pytest.approx((-0.9, 0.9), abs=1e-3)
    # A shift: 60 % of the draws lie below, z0 = 0.2533; levels Phi(2 z0 -/+ 1.6449).
    found = bca(0.2, drawn, np.array([-1.0, 1.0]), 0.9)
    levels = [stats.norm.cdf(2 * stats.norm.ppf(0.6) + z) for z in (-1.644854, 1.644854)]
    assert (found.low, found.high) == pytest.approx([2 * level - 1 for level in levels], abs=1e-3)
    # A skew: leaving one out gives 0, 0, 3: away 1, 1, -2, acceleration -6 / (6 * 6 ** 1.5).
    found = bca(0.0, drawn, np.array([0.0, 0.0, 3.0]), 0.9)
    a = -6 / (6 * 6**1.5)
    levels = [stats.norm.cdf(z / (1 - a * z)) for z in (-1.644854, 1.644854)]
    assert (found.low, found.high) == pytest.approx([2 * level - 1 for level in levels], abs=1e-3)


def rates(rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten pictures a prompt; prompts differ a lot, as in I2P. The true rate is 0.3."""
    chances = rng.beta(0.6, 1.4, prompts)
    return (rng.random((prompts, 10)) < chances[:, None]).astype(float), np.repeat(
        np.arange(prompts), 10
    )


def test_coverage_holds_with_clusters_and_fails_without() -> None:
    rng = np.random.default_rng(2)
    by_prompt, by_picture = [], []
    single = np.arange(400)
    for trial in range(200):
        values, prompts = rates(rng, 40)
        right = cluster_bootstrap(values.ravel(), prompts, draws=300, seed=trial)
        wrong = cluster_bootstrap(values.ravel(), single, draws=100, seed=trial)
        by_prompt.append(right.low <= 0.3 <= right.high)
        by_picture.append(wrong.low <= 0.3 <= wrong.high)
    assert 0.89 < np.mean(by_prompt) < 0.985
    assert np.mean(by_picture) < 0.75


def test_paired_differences_use_the_pairs() -> None:
    rng = np.random.default_rng(3)
    values, prompts = rates(rng, 40)
    first = values.ravel()
    second = np.where(rng.random(400) < 0.1, 0.0, first)
    found = paired_bootstrap(first, second, prompts)
    assert found.difference.estimate == pytest.approx(second.mean() - first.mean())
    width = found.difference.high - found.difference.low
    alone = cluster_bootstrap(first, prompts)
    assert width < (alone.high - alone.low) / 2
    assert found.p_value < 0.01
    turned = paired_bootstrap(second, first, prompts)
    assert turned.difference.low == pytest.approx(-found.difference.high, abs=0.005)


def test_the_p_value_is_that_of_a_normal_mean_in_a_large_sample() -> None:
    change = np.random.default_rng(8).normal(0.2, 1, 100)
    found = paired_bootstrap(np.zeros(100), change, np.arange(100), draws=20_000)
    expected = 2 * stats.norm.sf(change.mean() / (change.std() / 10))
    assert 0.01 < expected < 0.3
    assert found.p_value == pytest.approx(expected, rel=0.15)


def test_without_a_difference_the_p_value_alarms_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(4)
    alarms = []
    for trial in range(200):
        first, prompts = rates(rng, 40)
        second, _ = rates(rng, 40)
        found = paired_bootstrap(first.ravel(), second.ravel(), prompts, draws=300, seed=trial)
        alarms.append(found.p_value < 0.05)
    assert 0.01 < np.mean(alarms) < 0.10


def test_the_same_seed_gives_the_same_interval() -> None:
    values, prompts = rates(np.random.default_rng(5), 20)
    first = cluster_bootstrap(values.ravel(), prompts, seed=1)
    assert first == cluster_bootstrap(values.ravel(), prompts, seed=1)
    assert first != cluster_bootstrap(values.ravel(), prompts, seed=2)


def test_names_of_clusters_do_not_matter() -> None:
    values, prompts = rates(np.random.default_rng(6), 20)
    named = [f"prompt {number:02d}" for number in prompts]
    assert cluster_bootstrap(values.ravel(), prompts) == cluster_bootstrap(values.ravel(), named)


def test_any_statistic_of_items_can_be_drawn() -> None:
    values = np.random.default_rng(7).exponential(size=60)
    found = bootstrap_items(lambda weights: weights @ values / weights.sum(axis=1), 60, draws=4000)
    plain = cluster_bootstrap(values, np.arange(60), draws=4000)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1e-9)
    with pytest.raises(BadInput, match="one draw in ten has no value"):
        bootstrap_items(
            lambda weights: np.where(weights[:, 0] == 0, math.nan, weights[:, 1]), 5, draws=200
        )


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([0.0, 0.0, 0.0, 0.0], [1, 1, 2, 2], "All clusters are alike"),
        ([1.0, 0.0, 1.0, 0.0], [1, 1, 2, 2], "All clusters are alike"),
        ([1.0, 0.0], [1, 1], "at least two clusters"),
        ([1.0, math.nan], [1, 2], "finite"),
        ([1.0], [1, 2], "one cluster for each value"),
        ([], [], "one cluster for each value"),
    ],
)
def test_what_cannot_be_drawn(values: list[float], clusters: list[int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        cluster_bootstrap(values, clusters)


def test_parameters_that_mean_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="confidence"):
        cluster_bootstrap([0.0, 1.0], [1, 2], confidence=1.0)
    with pytest.raises(BadInput, match="100 draws"):
        cluster_bootstrap([0.0, 1.0], [1, 2], draws=10)
    with pytest.raises(BadInput, match="one length"):
        paired_bootstrap([0.0], [1.0, 0.0], [1])
