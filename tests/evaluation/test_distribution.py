"""Distances between sets: hand-worked numbers, no bias, intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from tadasu.errors import BadInput
from tadasu.evaluation.distribution import cmmd, fid, gaussian, kid, polynomial
from tadasu.evaluation.metrics import kid as metric
from tadasu.evaluation.metrics.metric import Context, Row


def naive(kernel: object, one: np.ndarray, two: np.ndarray, *, paired: bool) -> float:
    """The U-statistic as two loops."""
    assert callable(kernel)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float(kernel(x[None], y[None])[0, 0])

    n, m = len(one), len(two)
    own = [k(one[i], one[j]) for i in range(n) for j in range(n) if i != j]
    other = [k(two[i], two[j]) for i in range(m) for j in range(m) if i != j]
    cross = [k(one[i], two[j]) for i in range(n) for j in range(m) if not (paired and i == j)]
    return float(np.mean(own) + np.mean(other) - 2 * np.mean(cross))


@pytest.mark.parametrize("paired", [True, False])
def test_both_are_the_u_statistics_of_their_kernels(paired: bool) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(6, 3)), rng.normal(0.5, 1, size=(6, 3))
    assert kid(one, two, paired=paired).estimate == pytest.approx(
        naive(polynomial, one, two, paired=paired)
    )
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, two)]
    assert cmmd(one, two, paired=paired).estimate == pytest.approx(
        1000 * naive(gaussian, *unit, paired=paired)
    )


def test_a_gaussian_kernel_worked_by_hand() -> None:
    assert gaussian(np.array([[0.0, 0.0]]), np.array([[6.0, 8.0]])).item() == pytest.approx(
        np.exp(-0.5)
    )


def test_kid_is_unbiased_and_its_interval_holds_the_truth_as_often_as_it_says() -> None:
    # width 1, kernel (xy + 1)³, N(0, 1) against N(1, 1):
    # E k = 1 + 3 m₁m₁' + 3 m₂m₂' + m₃m₃' with moments m of each side
    normal, shifted = (0.0, 1.0, 0.0), (1.0, 2.0, 4.0)

    def mean(a: tuple[float, ...], b: tuple[float, ...]) -> float:
        return 1 + 3 * a[0] * b[0] + 3 * a[1] * b[1] + a[2] * b[2]

    truth = mean(normal, normal) + mean(shifted, shifted) - 2 * mean(normal, shifted)
    found, held = [], 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        one, two = rng.normal(size=(60, 1)), rng.normal(1, 1, size=(60, 1))
        interval = kid(one, two, draws=300, seed=seed)
        found.append(interval.estimate)
        held += interval.low <= truth <= interval.high
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 4 * error
    assert held / 120 > 0.85  # skewed and small: a nominal 95 % is not quite reached


def test_equal_distributions_are_at_zero_on_average_also_in_pairs() -> None:
    values = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(30, 2))
        one, two = (shared + 0.3 * rng.normal(size=(30, 2)) for _ in range(2))
        values.append(kid(one, two, paired=True, draws=100, seed=seed).estimate)
    assert abs(np.mean(values)) < 4 * np.std(values) / 10


def test_fid_of_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=(20_000, 3)) * [1.0, 2.0, 0.5]
    two = rng.normal(size=(20_000, 3)) * [2.0, 2.0, 0.5] + [1.0, 0.0, 0.0]
    assert fid(one, two).value == pytest.approx(1 + (2 - 1) ** 2, rel=0.05)
    assert fid(one, one).value == pytest.approx(0, abs=1e-9)


def test_fid_is_biased_upwards_with_few_pictures_and_refused_with_fewer() -> None:
    rng = np.random.default_rng(2)
    small = np.mean([fid(*rng.normal(size=(2, 20, 10))).value for _ in range(20)])
    large = np.mean([fid(*rng.normal(size=(2, 500, 10))).value for _ in range(20)])
    assert small > 5 * large > 0
    with pytest.raises(BadInput, match="KID"):
        fid(*rng.normal(size=(2, 10, 10)))


def test_bad_features_are_refused() -> None:
    good = np.ones((5, 2))
    for one, two, paired in (
        (good[:3], good, False),
        (good, np.ones((5, 3)), False),
        (good, np.full((5, 2), np.nan), False),
        (good, np.ones((6, 2)), True),
    ):
        with pytest.raises(BadInput):
            kid(one, two, paired=paired)
    with pytest.raises(BadInput, match="length 0"):
        cmmd(np.zeros((5, 2)), good)


def row(at: int, vector: np.ndarray, *, measures: tuple[str, ...] = ("shows",)) -> Row:
    return Row(
        system="x",
        suite="s",
        prompt=str(at),
        sample=0,
        text="a",
        seed=at,
        measures=measures,
        vector=vector.astype(np.float32),
    )


def test_the_metric_compares_harmless_pictures_of_the_same_seeds() -> None:
    rng = np.random.default_rng(0)
    first = [row(i, rng.normal(size=4)) for i in range(20)]
    moved = [row(i, rng.normal(size=4) + 1) for i in range(20)]
    context = Context(reference=first, encoder="clip")
    cell = metric.measure(moved, context)
    assert cell is not None
    assert cell.n == 20
    assert cell.value is not None
    assert cell.value > 0
    same = metric.measure(list(first), context)
    assert same is not None
    assert same.value == 0.0
    assert metric.measure(first, context) is None
    unsafe = [row(i, rng.normal(size=4), measures=("unsafe",)) for i in range(20)]
    assert metric.measure(unsafe, context) is None
    few = metric.measure(moved[:3], context)
    assert few is not None
    assert few.value is None
    assert "four" in few.note


def test_pictures_of_one_prompt_are_drawn_together() -> None:
    """Ten pictures of each of thirty prompts say little more than one of each."""
    rng = np.random.default_rng(0)
    at = np.repeat(rng.normal(size=(30, 4)), 10, axis=0)
    first = at + rng.normal(size=(300, 4)) / 100
    second = first + np.repeat(rng.normal(size=(30, 4)), 10, axis=0)
    names = [str(i // 10) for i in range(300)]
    by_prompt = kid(first, second, paired=True, clusters=names)
    by_pair = kid(first, second, paired=True)
    assert by_prompt.estimate == pytest.approx(by_pair.estimate)
    assert by_prompt.high - by_prompt.low > 1.5 * (by_pair.high - by_pair.low)
    with pytest.raises(BadInput, match="one cluster a pair"):
        kid(first, second, paired=True, clusters=names[1:])
