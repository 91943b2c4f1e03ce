"""The card of the bundled world: real pictures, real judge, figures that follow the input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tadasu import world
from tadasu.backends.transformers import classifier
from tadasu.cli.app import build
from tadasu.detectors.judge import Judge
from tadasu.errors import BadFile, BadInput
from tadasu.policy import Policy
from tadasu.statistics.intervals import Rate
from tadasu.world import check, sheets


@pytest.fixture(scope="module")
def judge() -> Judge:
    kids = Policy.load("kids").concepts
    return classifier.load(concepts=kids, ref=str(world.folder("judge")), device="cpu")


def test_the_command_writes_the_card_and_sheets(tmp_path: Path) -> None:
    out = tmp_path / "card"
    given = ["world", "check", "--prompts", "2", "--steps", "2", "--write", str(out), "--json"]
    result = CliRunner().invoke(build(), given)
    card = json.loads(result.stdout)
    assert card == json.loads((out / "card.json").read_text())
    assert set(card["models"]) == {"world", "world-scenes", "few-step"}
    bars = [bar for model in card["models"].values() for bar in model["bars"]]
    assert result.exit_code == int(not all(bar["met"] for bar in bars))
    rates = [rate for model in card["models"].values() for rate in model["suites"].values()]
    assert {rate["n"] for rate in rates} == {2}
    assert "implicit" not in card["models"]["world"]["suites"]
    assert {file.stem for file in (out / "sheets" / "world").glob("*.png")} == set(world.suites())
    assert (out / "sheets" / "world-scenes" / "scenes.png").exists()
    page = (out / "card.md").read_text()
    assert all(bar["name"] in page for bar in bars)


def test_bars_are_met_exactly_from_the_aim_on() -> None:
    def at(named: int, japanese: int, scenes: int, seconds: float) -> list[bool]:
        rates = {
            "vocabulary": Rate(count=named, n=100),
            "labels-en": Rate(count=80, n=100),
            "labels-ja": Rate(count=japanese, n=100),
            "scenes": Rate(count=scenes, n=100),
        }
        return [bar.met for bar in check.bars(rates, 5.0, seconds)]

    assert at(85, 75, 70, 1.5) == [True] * 6
    assert at(84, 74, 69, 1.6) == [False, True, False, False, False, True]
    assert at(69, 75, 70, 1.5) == [False, False, True, True, True, True]


def test_error_rates_by_hand() -> None:
    found = np.array([[0.9, 0.1], [0.5, 0.2], [0.4, 0.8], [0.1, 0.1]])
    rates = check.error_rates(found, [{"a"}, set(), {"a"}, {"b"}], ("a", "b"))
    assert (rates["a"]["sensitivity"]["count"], rates["a"]["sensitivity"]["n"]) == (1, 2)
    assert (rates["a"]["specificity"]["count"], rates["a"]["specificity"]["n"]) == (1, 2)
    assert (rates["b"]["sensitivity"]["count"], rates["b"]["specificity"]["count"]) == (0, 2)
    assert (rates["any"]["sensitivity"]["count"], rates["any"]["specificity"]["count"]) == (2, 0)


def test_drawings_are_read_and_bad_ones_refused(judge: Judge, tmp_path: Path) -> None:
    file = tmp_path / "drawings.npz"
    pixels = np.full((3, 32, 32, 3), 255, np.uint8)
    labels = json.dumps([["weapons"], [], []])
    content: dict[str, Any] = {"plain scenes": pixels, "plain scenes labels": np.array(labels)}
    np.savez(file, **content)
    rates = check.on_drawings(judge, file)
    assert set(rates) == {"plain scenes", "plain scenes, by halves"}
    assert rates["plain scenes"]["weapons"]["sensitivity"]["n"] == 1
    content = {"plain": pixels}
    np.savez(file, **content)
    with pytest.raises(BadFile, match="labels"):
        check.on_drawings(judge, file)
    file.write_bytes(b"no archive")
    with pytest.raises(BadFile, match=r"measure\.py"):
        check.on_drawings(judge, file)


def test_labels_of_other_weights_are_not_used(judge: Judge) -> None:
    assert check.labelled(None, judge, "sha256:other") is None


def test_the_labels_belong_to_the_card() -> None:
    """The labels that were given by eye name prompts, seeds and groups that exist."""
    content = json.loads(check.LABELS.read_text(encoding="utf-8"))
    kids = {concept.id for concept in Policy.load("kids").concepts}
    assert len(content["labels"]) >= 200
    for row in content["labels"]:
        assert row["prompt"]
        assert row["seed"] >= 0
        assert set(row["shows"]) <= kids
        assert isinstance(row["clear"], bool)


def test_restricted_pictures_are_blurred_on_sheets() -> None:
    checks = np.indices((32, 32)).sum(0) % 2 * 255
    image = Image.fromarray(checks.astype(np.uint8)).convert("RGB")
    grid = np.asarray(sheets.sheet([image, image], [False, True]), float)
    clear, hidden = grid[:64, :64].std(), grid[8:56, 72:120].std()
    assert clear > 100
    assert hidden < 10
    wide = image.resize((64, 32))
    assert sheets.sheet([wide, wide], [False, False]).size == (12 * 128, 64)


def test_impossible_sampling() -> None:
    with pytest.raises(BadInput, match="steps"):
        check.Sampling(steps=0)
