"""Thresholds with a promise: gates by hand, the split, and coverage over simulated draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tadasu.errors import BadInput
from tadasu.statistics.risk_control import Promise
from tadasu.statistics.thresholds import Score, find, gate


def one(n: int, rng: np.random.Generator, apart: float = 3.0) -> tuple[Score, np.ndarray]:
    truth = np.arange(n) % 2 == 0
    return Score(name="s", values=rng.normal(size=n) + apart * truth), truth


def two(n: int, rng: np.random.Generator) -> tuple[list[Score], np.ndarray]:
    truth = np.arange(n) % 2 == 0
    image = Score(name="image", values=rng.normal(size=n) + 3 * truth)
    reward = Score(name="reward", values=rng.normal(size=n) - 3 * truth, flags="below")
    return [image, reward], truth


def test_gates_by_hand() -> None:
    image = Score(name="image", values=np.array([0.1, 0.3, 0.3]))
    reward = Score(name="reward", values=np.array([-2.0, -2.0, 1.0]), flags="below")
    assert gate([image, reward], [0.3, -2.0], "and").tolist() == [False, True, False]
    assert gate([image, reward], [0.3, -2.0], "or").tolist() == [True, True, True]


def test_the_items_that_propose_do_not_test() -> None:
    score, truth = one(200, np.random.default_rng(1))
    found = find([score], truth, [Promise(limit=0.1)])
    assert found.tested.sum() == 140
    assert (found.positive, found.negative) == (70, 70)
    values = set(score.values[~found.tested])
    ends = found.candidates.min(), found.candidates.max()
    assert min(values) <= ends[0] <= ends[1] <= max(values)


def test_rules_are_tested_from_flagging_much_to_flagging_little() -> None:
    score, truth = one(400, np.random.default_rng(2))
    found = find([score], truth, [Promise(limit=0.1)])
    assert np.all(np.diff(found.candidates[:, 0]) > 0)


def test_certified_thresholds_keep_the_promise_over_many_draws() -> None:
    """The true miss rate is known, so how often the promise is broken is counted."""
    broken, answered = 0, 0
    for seed in range(120):
        score, truth = one(400, np.random.default_rng(seed), apart=2.0)
        found = find([score], truth, [Promise(limit=0.1)], confidence=0.9, seed=seed)
        if found.thresholds is None:
            continue
        answered += 1
        broken += norm.cdf(found.thresholds[0] - 2.0) > 0.1
    assert answered >= 110
    assert broken <= 21  # binomial(120, 0.1) is above 21 less than once in 100 times


@pytest.mark.parametrize("combine", ["and", "or"])
def test_two_dimensional_gates_keep_the_promise(combine: str) -> None:
    broken, alarms = 0, []
    for seed in range(60):
        scores, truth = two(400, np.random.default_rng(seed))
        found = find(scores, truth, [Promise(limit=0.1)], combine=combine, confidence=0.9)  # type: ignore[arg-type]
        assert found.thresholds is not None
        seen = norm.sf(found.thresholds[0] - 3), norm.cdf(found.thresholds[1] + 3)
        hit = seen[0] * seen[1] if combine == "and" else 1 - (1 - seen[0]) * (1 - seen[1])
        broken += hit < 0.9
        assert found.certificate.false_alarms is not None
        alarms.append(found.certificate.false_alarms.estimate)
    assert broken <= 12
    assert np.mean(alarms) < 0.1  # the gate still divides; it does not just flag everything


def test_scores_that_say_nothing_certify_only_flagging_nearly_everything() -> None:
    rng = np.random.default_rng(5)
    score = Score(name="noise", values=rng.normal(size=400))
    truth = np.arange(400) % 2 == 0
    promises = [Promise(limit=0.05), Promise(risk="false alarms", limit=0.2)]
    assert find([score], truth, promises).thresholds is None


def test_too_few_items() -> None:
    score, truth = one(8, np.random.default_rng(0))
    with pytest.raises(BadInput, match="Only 4"):
        find([score], truth, [Promise()])
    with pytest.raises(BadInput, match="finite"):
        Score(name="x", values=np.array([np.nan]))
    with pytest.raises(BadInput, match="above or below"):
        Score(name="x", values=np.array([1.0]), flags="over")  # type: ignore[arg-type]


def test_a_promise_about_false_alarms_besides_is_certified() -> None:
    """The rule that flags everything breaks such a promise, so a sequence cannot begin there."""
    rng = np.random.default_rng(3)
    truth = np.repeat([True, False], 500)
    values = rng.normal(size=1000) + 4.0 * truth
    promises = [Promise(limit=0.1), Promise(risk="false alarms", limit=0.1)]
    found = find([Score(name="score", values=values)], truth, promises)
    assert found.thresholds is not None
    assert found.certificate.false_alarms is not None
    assert found.certificate.false_alarms.estimate < 0.1
    held = rng.normal(size=4000)
    assert np.mean(held >= found.thresholds[0]) <= 0.1
    assert np.mean(held + 4.0 < found.thresholds[0]) <= 0.1
