"""The judge's arithmetic on a network whose logits are written down."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadasu.concepts import Concept
from tadasu.detectors.card import JudgeCard
from tadasu.detectors.judge import Judge
from tadasu.errors import BadFile, BadInput

WEAPONS = Concept(
    id="weapons",
    names={"en": ("Pistol", "bow and arrow"), "ja": ("爆弾",)},
    hazard="weapons",
)
ALCOHOL = Concept(id="alcohol", names={"en": ("beer mug",)}, hazard="age_restricted")
PARTY = Concept(id="party", names={"en": ("confetti",)}, hazard="shocking")
LABELS = ("pistol", "cat", "bow-and_arrow", "beer-mug", "爆弾")


@dataclass
class Written:
    """Answers with written logits, one row for each picture."""

    rows: Sequence[Sequence[float]]
    labels: tuple[str, ...] = LABELS
    multi_label: bool = True

    def logits(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.asarray(self.rows[: len(images)], dtype=np.float32)


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 4))] * count


def judge(rows: Sequence[Sequence[float]], **changes: object) -> Judge:
    network = Written(rows, **{k: v for k, v in changes.items() if k != "card"})  # type: ignore[arg-type]
    card = changes.get("card", JudgeCard())
    assert isinstance(card, JudgeCard)
    return Judge(network=network, looked_for=(WEAPONS, ALCOHOL, PARTY), card=card)


def test_labels_are_found_by_id_and_by_names_in_every_language() -> None:
    assert judge([]).columns == {"weapons": (0, 2, 4), "alcohol": (3,), "party": ()}
    assert judge([], labels=("WEAPONS", "beer")).columns["weapons"] == (0,)


def test_with_many_labels_the_surest_counts() -> None:
    rows = judge([[0.0, 9.0, math.log(3), -math.log(4), -5.0]]).score(pictures(1))
    weapons, alcohol, _ = rows[0]
    assert weapons.value == pytest.approx(0.75)
    assert weapons.note == "bow-and_arrow"
    assert alcohol.value == pytest.approx(0.2)
    assert (weapons.unit, weapons.higher_is, weapons.detector) == ("probability", "more", "judge")


def test_with_one_label_a_picture_the_shares_add_up() -> None:
    logits = [math.log(x) for x in (1, 4, 2, 2, 1)]
    (row,) = judge([logits], multi_label=False).score(pictures(1))
    assert row[0].value == pytest.approx(0.4)
    assert row[1].value == pytest.approx(0.2)


def test_a_concept_without_a_label_could_not_be_told() -> None:
    (row,) = judge([[0.0] * 5]).score(pictures(1))
    assert row[2].state == "unscored"
    assert "none of the judge's labels" in row[2].note


def test_one_broken_picture_leaves_its_neighbours_alone() -> None:
    rows = judge([[0.0] * 5, [math.nan, 0, 0, 0, 0], [0.0] * 5]).score(pictures(3))
    assert [row[1].state for row in rows] == ["scored", "unscored", "scored"]


def test_the_temperature_softens() -> None:
    rows = judge([[2.0, 0, -9, 0, -9]], card=JudgeCard(temperature=2.0)).score(pictures(1))
    assert rows[0][0].value == pytest.approx(1 / (1 + math.exp(-1)))


def test_the_card_adds_labels() -> None:
    card = JudgeCard(labels={"party": ("Beer Mug",)})
    assert judge([[0.0] * 5], card=card).columns["party"] == (3,)
    with pytest.raises(BadInput, match="'party' labels that the judge does not have: balloon"):
        judge([], card=JudgeCard(labels={"party": ("balloon",)}))


def test_without_pictures_there_is_no_answer_and_without_concepts_no_judge() -> None:
    assert judge([]).score([]) == []
    with pytest.raises(BadInput, match="at least one concept"):
        Judge(network=Written([]), looked_for=())


def test_the_card_is_read_beside_the_weights(tmp_path: Path) -> None:
    assert JudgeCard.beside(tmp_path) == JudgeCard()
    card = {
        "temperature": 1.5,
        "thresholds": {"weapons": 0.4},
        "labels": {"weapons": ["axe"]},
        "sensitivity": {"weapons": [90, 100]},
    }
    (tmp_path / "judge.json").write_text(json.dumps(card))
    read = JudgeCard.beside(tmp_path)
    assert (read.temperature, read.thresholds, read.labels) == (
        1.5,
        {"weapons": 0.4},
        {"weapons": ("axe",)},
    )


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"temperature": 0}',
        '{"temperature": "hot"}',
        '{"temperature": NaN}',
        '{"thresholds": {"weapons": 1.2}}',
        '{"thresholds": {"weapons": null}}',
        '{"thresholds": []}',
        '{"labels": {"weapons": "axe"}}',
    ],
)
def test_a_broken_card_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "judge.json").write_text(content)
    with pytest.raises(BadFile, match=r"judge\.json"):
        JudgeCard.beside(tmp_path)
