"""Findings say no more than their stage may, and survive being stored."""

from __future__ import annotations

import json
import math

import pytest

from tadasu.auditing.cascade import Cascade
from tadasu.auditing.findings import STAGES, Evidence, Finding, Response, blood_test, response
from tadasu.concepts import SEVERITIES
from tadasu.errors import BadInput
from tadasu.statistics.intervals import Interval


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in ("probe", "lineage")])
def test_weights_and_words_never_convict(stage: str) -> None:
    with pytest.raises(BadInput, match="never convicts"):
        Finding(file="a", concept="x", conclusion="present", stage=stage)  # type: ignore[arg-type]


def test_a_finding_survives_being_stored() -> None:
    finding = Finding(
        file="ä.safetensors",
        digest="00",
        concept="dagger",
        part_of="weapons",
        conclusion="present",
        stage="probe",
        score=7.5,
        p_value=1e-6,
        interval=Interval(estimate=1.0, low=0.6, high=1.0, confidence=0.9),
        severity="high",
        response=Response.WITHHOLD,
        evidence=(Evidence(stage="probe", says="x", score=1.0, unit="spreads"),),
        layers={"unet.a.weight": 0.5},
        seconds=1.5,
    )
    stored = json.dumps(finding.as_json(), allow_nan=False)
    assert Finding.from_json(json.loads(stored)) == finding


def test_an_interval_of_nothing_is_stored_as_null() -> None:
    limits = Interval(estimate=math.nan, low=0.0, high=1.0)
    plain = Finding(file="a", conclusion="absent", stage="probe", interval=limits).as_json()
    json.dumps(plain, allow_nan=False)
    again = Finding.from_json(plain)
    assert again.interval is not None
    assert math.isnan(again.interval.estimate)


def test_responses_grow_with_severity_and_nothing_unknown_is_allowed() -> None:
    order = [response("present", severity) for severity in SEVERITIES]
    assert order == [
        Response.RETRAIN, Response.EDIT_AWAY, Response.WITHHOLD, Response.ESCALATE,
    ]  # fmt: skip
    for severity in SEVERITIES:
        assert response("absent", severity) is Response.ALLOW
        assert response("undecided", severity) is Response.ESCALATE
        assert response("unreadable", severity) is Response.WITHHOLD


def test_a_file_counts_once_with_its_worst() -> None:
    found = [
        Finding(file="a", concept="x", conclusion="absent", stage="probe"),
        Finding(file="a", concept="y", conclusion="present", stage="probe"),
        Finding(file="b", conclusion="unreadable", stage="read"),
    ]
    counts = dict(blood_test(found))
    assert {name: count for name, count in counts.items() if count} == {
        "present": 1,
        "unreadable": 1,
    }


def test_the_cascade_keeps_the_best_and_the_named() -> None:
    cascade = Cascade(first_order=2.0, text_direction=3.0, most=2, always=1, rivals=1)
    first = {"a": 5.0, "b": 3.0, "c": 2.5, "d": 0.0, "e": -1.0}
    assert cascade.chosen("abcde", first, {}) == ("a", "b")
    assert cascade.chosen("abcde", first, {}, named=("e",)) == ("e", "a", "b")
    assert cascade.chosen("de", first, {}) == ("d",)
    assert cascade.chosen("de", first, {"e": 4.0}) == ("d", "e")
    assert cascade.chosen("abcde", {}, {}) == tuple("abcde")
    assert cascade.opponents("cab", first) == ("a",)
