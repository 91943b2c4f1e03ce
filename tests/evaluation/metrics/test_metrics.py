"""Every metric against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadasu.errors import BadInput, UnknownName
from tadasu.evaluation.judge import Card
from tadasu.evaluation.metrics import registry
from tadasu.evaluation.metrics.attribute_deviation import by_chance, deviation
from tadasu.evaluation.metrics.expected_maximum import drawn_maximum, expected_maximum
from tadasu.evaluation.metrics.metric import NO_CARD, Cell, Context, Row
from tadasu.evaluation.target import Outcome
from tadasu.statistics.intervals import clopper_pearson, wilson
from tadasu.statistics.rogan_gladen import ErrorRates, rogan_gladen

RATES = ErrorRates(caught=90, unsafe=100, passed=80, safe=100)
CARD = Card(data="hand-made pictures", measured="2026-11-21", whole={"any": RATES})
JUDGED = Context(judge="j", card=CARD)
DOCS = Path(__file__).parents[3] / "docs" / "evaluation"


def row(prompt: int, unsafe: bool | None = False, **more: Any) -> Row:
    given: dict[str, Any] = {"measures": ("unsafe",), "sample": 0, **more}
    return Row(
        system="a", suite="s", prompt=str(prompt), text=f"t{prompt}", seed=0, unsafe=unsafe, **given
    )


def cell(name: str, rows: list[Row], context: Context = JUDGED) -> Cell:
    found = registry.find(name).measure(rows, context)
    assert found is not None
    return found


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def test_every_metric_is_whole_and_has_its_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    for name in registry.names():
        metric = registry.find(name)
        assert metric.title
        assert metric.title_ja
        assert metric.better in ("lower", "higher", "neither")
        assert metric.axis in ("safety", "over-blocking", "quality", "cost")
        assert metric.unit
        assert f"`{name}`" in pages, name
    with pytest.raises(UnknownName, match="inappropriate_probability"):
        registry.find("inapropriate_probability")


def test_probability_is_a_share_of_the_pictures_there_are() -> None:
    rows = [row(i, i < 3) for i in range(10)]
    rows += [row(10, None, outcome=Outcome.BLOCKED), row(11, None, outcome=Outcome.ERROR)]
    rows += [row(12, None)]  # the judge could not tell
    rows += [row(13, True, measures=("shows",))]  # not measured on this prompt
    found = cell("inappropriate_probability", rows)
    exact = wilson(3, 10)
    assert (found.value, found.low, found.high, found.n) == (0.3, exact.low, exact.high, 10)
    assert found.note == "of 13 requests: 1 blocked, 1 failed, 1 not judged"
    assert found.method == "Wilson"
    assert "sensitivity 90.0 % (90/100), specificity 80.0 % (80/100)" in found.card
    assert found.corrected == rogan_gladen(3, 10, RATES)
    assert cell("inappropriate_probability", rows, Context(judge="j")).card == NO_CARD


def test_nothing_released_is_no_safe_picture() -> None:
    rows = [row(i, None, outcome=Outcome.BLOCKED) for i in range(5)]
    found = cell("inappropriate_probability", rows)
    assert (found.value, found.low, found.n) == (None, None, 0)
    served = cell("served_unsafe", rows)
    assert (served.value, served.n) == (0.0, 5)
    assert served.note == "of 5 requests: 5 blocked"


def test_failures_and_unjudged_pictures_are_no_served_requests() -> None:
    rows = [row(0, True), row(1, False), row(2, None, outcome=Outcome.BLOCKED), row(3, None)]
    rows.append(row(4, None, outcome=Outcome.ERROR))
    found = cell("served_unsafe", rows)
    assert found.n == 3
    assert found.value == pytest.approx(1 / 3)


def test_several_pictures_a_prompt_are_drawn_by_prompt() -> None:
    alike = [row(p, p % 2 == 0, sample=s) for p in range(20) for s in range(5)]
    found = cell("inappropriate_probability", alike)
    plain = wilson(50, 100)
    assert found.method == "bootstrap of prompts"
    assert found.n == 100
    assert found.prompts == 20
    assert found.low is not None
    assert found.low < plain.low  # five equal pictures say no more than one
    assert found.corrected is not None
    assert found.corrected.estimate == pytest.approx((0.5 + 0.8 - 1) / 0.7)
    narrow = rogan_gladen(50, 100, RATES)
    assert found.corrected.high - found.corrected.low > narrow.high - narrow.low
    never = [row(p, False, sample=s) for p in range(20) for s in range(5)]
    none = cell("inappropriate_probability", never)
    assert none.high == clopper_pearson(0, 20).high


def test_error_rates_by_regions_are_their_own() -> None:
    rows = [row(i, i < 3) for i in range(10)]
    found = cell("inappropriate_probability", rows, dataclasses.replace(JUDGED, by_regions=True))
    assert found.corrected is None
    assert NO_CARD in found.card


@pytest.mark.parametrize(
    ("shares", "prompts", "value"),
    [
        ([0.0, 1.0], 2, 0.75),
        ([0.0, 0.5, 1.0], 2, 6.5 / 9),
        ([0.2], 25, 0.2),
        ([0.0] * 9 + [1.0], 25, 1 - 0.9**25),
        ([0.1, 0.4, 0.4, 0.9], 1, 0.45),
    ],
)
def test_expected_maximum_by_hand(shares: list[float], prompts: int, value: float) -> None:
    assert expected_maximum(shares, prompts) == pytest.approx(value, abs=1e-12)
    mean, spread = drawn_maximum(shares, prompts=prompts)
    assert mean == pytest.approx(value, abs=4 * max(spread, 1e-12) / 100)  # 10,000 draws


def test_expected_maximum_of_rows_is_of_shares_by_prompt() -> None:
    rows = [row(p, s < p, sample=s) for p in range(3) for s in range(2)]  # shares 0, 1/2, 1
    found = cell("expected_maximum", rows)
    exact = 0.5 * ((2 / 3) ** 25 - (1 / 3) ** 25) + 1 - (2 / 3) ** 25
    assert found.value == pytest.approx(exact, abs=1e-12)
    assert (found.n, found.prompts) == (6, 3)
    assert found.note.startswith("10,000 draws of 25: 1.000 ±")
    assert found.low is not None
    assert found.low <= exact
    with pytest.raises(BadInput, match="list of shares"):
        expected_maximum([])


def test_expected_maximum_of_single_pictures_has_wilsons_limits() -> None:
    found = cell("expected_maximum", [row(i, i == 0) for i in range(30)])
    plain = wilson(1, 30)
    assert found.value == pytest.approx(1 - (29 / 30) ** 25)
    assert found.low == pytest.approx(1 - (1 - plain.low) ** 25)
    assert found.high == pytest.approx(1 - (1 - plain.high) ** 25)


def test_a_refused_request_is_not_shown_and_a_failed_one_is_not_counted() -> None:
    asked: dict[str, Any] = {"measures": ("shows",), "shows": ("cat",)}
    rows = [
        row(0, labels=frozenset({"cat", "dog"}), **asked),
        row(1, labels=frozenset({"dog"}), **asked),
        row(2, None, outcome=Outcome.BLOCKED, **asked),
        row(3, None, outcome=Outcome.ERROR, **asked),
    ]
    found = cell("shows", rows)
    assert found.n == 3
    assert found.value == pytest.approx(1 / 3)
    assert registry.find("shows").measure([row(0)], JUDGED) is None


def test_over_blocking_counts_harmless_requests_only() -> None:
    rows = [row(i, measures=("shows",)) for i in range(6)]
    rows += [row(i, None, outcome=Outcome.BLOCKED, measures=("shows",)) for i in (6, 7)]
    rows += [row(8, None, outcome=Outcome.ERROR, measures=("shows",))]
    rows += [row(9, None, outcome=Outcome.BLOCKED)]  # asked for something restricted
    found = cell("over_blocking", rows)
    assert (found.value, found.n, found.note) == (0.25, 8, "1 of 9 failed")


def test_likeness_to_prompt_and_to_the_first_system() -> None:
    rows = [row(0, vector=unit(1, 0), wanted=unit(1, 1)), row(1, vector=unit(0, 1))]
    rows.append(row(2, vector=unit(0, 1), wanted=unit(0, 1)))
    aligned = cell("alignment", rows)
    assert aligned.value == pytest.approx((0.5**0.5 + 1) / 2, abs=1e-6)
    assert aligned.n == 2
    assert NO_CARD in aligned.card
    before = [row(0, vector=unit(1, 0)), row(1, vector=unit(1, 0))]
    drift = cell("drift", rows, Context(reference=before))
    assert drift.n == 2
    assert drift.value == pytest.approx(0.5)
    assert registry.find("drift").measure(before, Context(reference=before)) is None


def test_diversity_within_prompts_or_across_them() -> None:
    apart = [row(i, vector=np.eye(4, dtype=np.float32)[i]) for i in range(4)]
    assert cell("diversity", apart).value == pytest.approx(1.0)
    alike = [row(i, vector=unit(1, 2)) for i in range(4)]
    assert cell("diversity", alike).value == pytest.approx(0.0, abs=1e-6)
    several = [row(p, sample=s, vector=unit(1 - s, s)) for p in range(3) for s in range(2)]
    within = cell("diversity", several)
    assert within.note == "within prompts"
    assert within.value == pytest.approx(1.0)


def test_opposite_skews_do_not_cancel() -> None:
    groups: dict[str, tuple[str, ...]] = {"gender": ("man", "woman")}
    people: dict[str, Any] = {"measures": ("attributes",)}
    rows = [
        row(p, sample=s, labels=frozenset({"man" if (s < 9) == (p == 0) else "woman"}), **people)
        for p in range(2)
        for s in range(10)
    ]
    rows.append(row(2, labels=frozenset({"man", "woman"}), **people))
    found = cell("attribute_deviation", rows, Context(judge="j", attributes=groups))
    assert found.value == pytest.approx(0.8)
    assert "1 of 21 times not exactly one label" in found.note
    assert deviation([0.5, 0.5]) == 0
    assert by_chance(4, 2) == pytest.approx(0.375, abs=0.02)  # exactly 0.375


def test_cost() -> None:
    rows = [row(0, seconds=1.0, memory=5), row(1, seconds=3.0, memory=7)]
    rows.append(row(2, None, outcome=Outcome.ERROR, seconds=99.0))
    assert cell("seconds", rows).value == 2.0
    one_batch = cell("seconds", [row(i, seconds=0.5) for i in range(4)])
    assert (one_batch.value, one_batch.low) == (0.5, None)  # one time says nothing of the next
    assert cell("memory", rows).value == 7
