"""Certified rules keep their promise: hand-worked counts, an exact binomial oracle, coverage."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from scipy.stats import binom

from tadasu.errors import BadInput, MissingPart
from tadasu.statistics.risk_control import Promise, certify, needed


def rules(missed: list[int], positives: int = 200, negatives: int = 100) -> np.ndarray:
    flags = np.zeros((len(missed), positives + negatives), dtype=bool)
    for row, count in enumerate(missed):
        flags[row, count:positives] = True
    return flags


TRUTH = np.array([True] * 200 + [False] * 100)


def test_p_values_are_exact_binomial_tails() -> None:
    found = certify(rules([0, 4, 9, 30]), TRUTH, [Promise(limit=0.05)])
    expected = [binom.cdf(k, 200, 0.05) for k in (0, 4, 9)]
    assert found.p_values[:3] == pytest.approx(expected, abs=1e-12)
    assert found.p_values[3] == pytest.approx(1.0, abs=1e-6)


def test_a_fixed_sequence_stops_at_its_first_failure() -> None:
    # 4 missed of 200 certify 5 % alone; behind a rule that fails they certify nothing.
    assert certify(rules([4]), TRUTH, [Promise(limit=0.05)]).certified.tolist() == [True]
    found = certify(rules([0, 9, 4]), TRUTH, [Promise(limit=0.05)])
    assert found.certified.tolist() == [True, False, False]


def test_the_order_given_is_the_order_tested() -> None:
    # from worst to best: a sequence that turned itself round by looking at the items would pass
    found = certify(rules([30, 4, 0]), TRUTH, [Promise(limit=0.05)])
    assert found.certified.tolist() == [False, False, False]
    assert found.chosen is None
    assert found.missed is None


def test_bonferroni_and_holm_need_no_order() -> None:
    many = rules([0, 3, 30])
    bonferroni = certify(many, TRUTH, [Promise(limit=0.05)], correction="bonferroni")
    holm = certify(many, TRUTH, [Promise(limit=0.05)], correction="holm")
    p = [binom.cdf(k, 200, 0.05) for k in (0, 3)]
    assert bonferroni.certified.tolist() == [p[0] <= 0.05 / 3, p[1] <= 0.05 / 3, False]
    assert holm.certified.tolist() == [True, p[1] <= 0.05 / 2, False]


def test_the_fewest_false_alarms_are_chosen() -> None:
    flags = rules([0, 0, 0])
    flags[0, 200:] = True
    flags[1, 200:210] = True
    flags[2, 200:220] = True
    found = certify(flags, TRUTH, [Promise(limit=0.05)])
    assert found.chosen == 1
    assert found.false_alarms is not None
    assert found.false_alarms.estimate == pytest.approx(0.1)


def test_two_promises_must_both_hold() -> None:
    flags = rules([0])
    flags[0, 200:210] = True
    promises = [Promise(limit=0.05), Promise(risk="false alarms", limit=0.3)]
    assert certify(flags, TRUTH, promises).chosen == 0
    tighter = [Promise(limit=0.05), Promise(risk="false alarms", limit=0.1)]
    assert certify(flags, TRUTH, tighter).chosen is None


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    """100 draws where the safest rule's true rate is just above the limit: few may pass."""
    rng = np.random.default_rng(0)
    truth = np.ones(150, dtype=bool)
    passed = 0
    for _ in range(100):
        flags = rng.random((1, 150)) > 0.1001
        passed += certify(flags, truth, [Promise(limit=0.1)], confidence=0.9).chosen is not None
    assert passed <= 17  # binomial(100, 0.1) is above 17 once in 100 times


def test_nothing_can_be_certified_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert certify(rules([199]), TRUTH, [Promise(limit=0.05)]).chosen is None


@pytest.mark.parametrize(
    ("flags", "truth", "promises"),
    [
        (rules([0]).astype(float), TRUTH, [Promise()]),
        (rules([0])[:, 1:], TRUTH, [Promise()]),
        (rules([0]), TRUTH, []),
        (rules([0]), np.zeros(300, dtype=bool), [Promise()]),
        (rules([0])[:0], TRUTH, [Promise()]),
    ],
)
def test_bad_input(flags: np.ndarray, truth: np.ndarray, promises: list[Promise]) -> None:
    with pytest.raises(BadInput):
        certify(flags, truth, promises)


def test_limits_and_risks_are_checked() -> None:
    with pytest.raises(BadInput, match="limit"):
        Promise(limit=0)
    with pytest.raises(BadInput, match="missed"):
        Promise(risk="recall")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="holm"):
        certify(rules([0]), TRUTH, [Promise()], correction="none")  # type: ignore[arg-type]


def test_without_mapie_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mapie.risk_control", None)
    with pytest.raises(MissingPart, match="calibrate"):
        certify(rules([0]), TRUTH, [Promise()])


def test_how_many_items_a_limit_needs() -> None:
    assert needed(0.05) == 59  # 0.95 ** 59 = 0.0485
    assert needed(0.05, missed=1) == 93
    with pytest.raises(BadInput):
        needed(1.0)


def test_many_failures_overflow_nothing() -> None:
    n = needed(0.05, missed=200)
    assert binom.cdf(200, n, 0.05) <= 0.05 < binom.cdf(200, n - 1, 0.05)
