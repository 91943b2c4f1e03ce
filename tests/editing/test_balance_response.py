from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from tadasu.editing.balance_response import Look, Response, fit

GENDERS = ("man", "woman")


def _look(p: float, n: int, amount: float = 0.0) -> Look:
    men = round(p * n)
    amounts = {"man": amount, "woman": -amount} if amount else {}
    return Look(amounts=amounts, counts={"man": men, "woman": n - men})


def test_skew_and_slope_of_a_known_model_are_found() -> None:
    def share(amount: float) -> float:
        return float(1 / (1 + np.exp(-(1.5 + 2 * 0.8 * amount))))

    looks = [_look(share(a), 4000, a) for a in (0.0, -0.5, -1.0)]
    found = fit({"pilot": looks}, GENDERS, slope=2.0)
    assert found.slope["pilot"] == pytest.approx(0.8, abs=0.03)
    assert found.shares("pilot", {})["man"] == pytest.approx(share(0.0), abs=0.01)
    assert found.amounts("pilot", dict.fromkeys(GENDERS, 0.5), 9)["woman"] == pytest.approx(
        1.5 / 1.6, abs=0.05
    )


def test_a_concept_drawn_once_borrows_the_slope_of_the_others() -> None:
    others = {f"job{k}": [_look(0.9, 400), _look(0.5, 400, -2.2)] for k in range(6)}
    alone = fit({"new": [_look(0.9, 400)]}, GENDERS, slope=4.0)
    found = fit({**others, "new": [_look(0.9, 400)]}, GENDERS, slope=4.0)
    assert alone.slope["new"] == pytest.approx(4.0, rel=0.05)
    assert found.slope["new"] == pytest.approx(0.5, rel=0.3)


def test_three_values_get_amounts_that_give_the_wanted_shares_and_sum_to_zero() -> None:
    tones = ("light", "medium", "dark")
    looks = [Look(amounts={}, counts={"light": 700, "medium": 200, "dark": 100})]
    found = fit({"x": looks}, tones, slope=1.0)
    amounts = found.amounts("x", dict.fromkeys(tones, 1 / 3), 9)
    assert sum(amounts.values()) == pytest.approx(0)
    assert list(found.shares("x", amounts).values()) == pytest.approx([1 / 3] * 3)
    small = found.amounts("x", dict.fromkeys(tones, 1 / 3), 0.1)
    assert max(map(abs, small.values())) == pytest.approx(0.1)
    assert small["dark"] > small["medium"] > small["light"], "scaled, not cut one by one"


def test_nothing_counted_is_the_prior() -> None:
    found = fit({"x": []}, GENDERS, slope=0.7)
    assert found.slope["x"] == pytest.approx(0.7, rel=1e-3)
    assert found.shares("x", {}) == pytest.approx({"man": 0.5, "woman": 0.5})


def test_shares_are_the_softmax_of_skew_and_amounts() -> None:
    made = Response(values=GENDERS, skew={"x": np.array([1.0, 0.0])}, slope={"x": 2.0})
    expected = softmax([1.0 - 0.6, 0.6])
    assert made.shares("x", {"man": -0.3, "woman": 0.3})["man"] == pytest.approx(expected[0])
