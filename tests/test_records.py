"""Scores, verdicts and generations: no number that is none, no unscored zero, no leaked picture."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image

from tadasu.errors import BadInput
from tadasu.records import Decision, Generation, Score


def score(value: float | None = 0.5, **changed: str) -> Score:
    state = "scored" if value is not None else "unscored"
    return Score(
        **{"detector": "judge", "concept": "a", "unit": "probability", "state": state} | changed,  # type: ignore[arg-type]
        value=value,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_is_finite(value: float) -> None:
    with pytest.raises(BadInput, match="finite"):
        score(value)
    with pytest.raises(BadInput, match="finite"):
        score(0.5).against(value)


def test_unscored_has_no_value_and_no_verdict() -> None:
    unscored = Score.unscored("judge", "a", "probability", "broken")
    assert unscored.value is None
    assert unscored.against(0.0).flagged is None
    for bad in ({"value": None, "state": "scored"}, {"value": 0.0, "state": "unscored"}):
        with pytest.raises(BadInput, match="unscored exactly when"):
            score(**bad)


@pytest.mark.parametrize(
    ("value", "direction", "flagged"),
    [
        (0.5, "more", True),
        (0.49, "more", False),
        (0.5, "less", True),
        (0.51, "less", False),
    ],
)
def test_the_direction_decides(value: float, direction: str, flagged: bool) -> None:
    assert score(value, higher_is=direction).against(0.5).flagged is flagged


@pytest.mark.parametrize("decision", [Decision.BLOCK, Decision.HOLD, Decision.REGENERATE])
def test_a_picture_that_was_not_released_is_not_handed_out(decision: Decision) -> None:
    with pytest.raises(BadInput, match="not handed out"):
        Generation(
            prompt="a",
            seed=0,
            system="s",
            policy={},
            decision=decision,
            image=Image.new("RGB", (2, 2)),
        )


def test_a_generation_as_json() -> None:
    generation = Generation(
        prompt="猫",
        seed=3,
        system="sha256:0",
        policy={"name": "kids"},
        scores=(score(0.1),),
        decision=Decision.RELEASE,
        file="a.png",
        image=Image.new("RGB", (2, 2)),
    )
    record = json.loads(json.dumps(generation.as_json()))
    assert {"file", "prompt", "seed", "system", "scores", "decision", "reasons"} <= set(record)
    assert record["scores"][0]["value"] == 0.1
    assert (record["decision"], record["reasons"]) == ("release", [])
    assert "image" not in record
