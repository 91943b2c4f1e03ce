"""``tadasu judge`` from the words on the command line to the exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from tadasu.cli.app import run

LABELS = ("pistol", "beer-mug", "cat")
POLICY = """
tadasu: 1
name: small
version: 1.0.0
concepts:
  - id: weapons
    hazard: weapons
    names: {en: [pistol]}
    output: [{detector: judge, threshold: 0.6, unit: probability, action: block}]
  - id: alcohol
    hazard: age_restricted
    names: {en: [beer mug]}
    output: [{detector: judge, threshold: 0.6, unit: probability, action: block}]
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy, a white and a black picture, and a judge that fears white."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "small.yaml").write_text(POLICY)
    Image.new("RGB", (16, 16), "white").save(folder / "white.png")
    Image.new("RGB", (16, 16), "black").save(folder / "black.png")
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=16,
        patch_size=16,
        id2label=dict(enumerate(LABELS)),
        problem_type="multi_label_classification",
    )
    torch.manual_seed(0)
    model = ViTForImageClassification(config).eval()
    with torch.no_grad():
        apart = [
            model.vit(torch.full((1, 3, 16, 16), level)).last_hidden_state[0, 0]
            for level in (1.0, -1.0)
        ]
        difference = apart[0] - apart[1]
        model.classifier.weight.zero_()
        model.classifier.weight[0] = 8 * difference / difference.square().sum()
        model.classifier.bias.zero_()
        model.classifier.bias[0] = -model.classifier.weight[0] @ (apart[0] + apart[1]) / 2
    model.save_pretrained(folder / "model")
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / "model")
    return folder


def judged(here: Path, *words: str) -> tuple[int, list[str]]:
    """The exit code of a command line whose files and policy lie in the folder."""
    paths = [str(here / word) if "." in word else word for word in words]
    model = ["--model", str(here / "model")]
    return run(["judge", *paths, "--policy", str(here / "small.yaml"), *model]), paths


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_clean_picture_ends_with_0(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, (file,) = judged(here, "black.png")
    assert code == 0
    assert capsys.readouterr().out == f"{file}: nothing flagged\n"


def test_a_flagged_picture_ends_with_1_and_says_why(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (_, file) = judged(here, "black.png", "white.png")
    assert code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{file}: see below"
    assert lines[2] == "  weapons: judge probability 0.982, flagged from 0.6 (pistol)"


def test_json_is_one_document_with_every_score(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (file,) = judged(here, "white.png", "--json")[0], [str(here / "white.png")]
    assert code == 1
    found = document(capsys)
    assert found["policy"]["name"] == "small"
    (image,) = found["images"]
    assert (image["file"], image["flagged"], image["error"]) == (file, True, None)
    weapons, alcohol = image["scores"]
    assert weapons["value"] == pytest.approx(0.982, abs=1e-3)
    assert alcohol["value"] == pytest.approx(0.5)
    assert [weapons["flagged"], alcohol["flagged"]] == [True, False]
    assert weapons["threshold"] == 0.6


def test_a_bad_file_does_not_stop_the_batch_and_ends_with_2(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.png").write_bytes((here / "white.png").read_bytes()[:40])
    assert judged(here, "bad.png", "white.png", "absent.png", "--json")[0] == 2
    bad, white, absent = document(capsys)["images"]
    assert bad["error"].startswith(repr(str(here / "bad.png")))
    assert (bad["flagged"], bad["scores"]) == (None, [])
    assert white["flagged"] is True
    assert "There is no picture" in absent["error"]


def test_what_could_not_be_told_is_not_clean(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text(POLICY.replace("[beer mug]", "[sake]"))
    words = ["judge", str(here / "black.png"), "--policy", str(tmp_path / "other.yaml")]
    assert run([*words, "--model", str(here / "model")]) == 1
    assert "alcohol: judge could not tell (none of the judge's labels" in capsys.readouterr().out


def test_a_detector_can_be_chosen_that_the_policy_does_not_name(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(here, "white.png", "--detector", "opennsfw", "--json")[0] == 0
    (score,) = document(capsys)["images"][0]["scores"]
    assert (score["detector"], score["concept"], score["threshold"]) == ("opennsfw", "sexual", 0.5)


def test_the_judges_card_gives_thresholds_where_the_policy_does_not(
    here: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (here / "model" / "judge.json").write_text('{"thresholds": {"weapons": 0.99, "alcohol": 0.1}}')
    silent = "\n".join(line for line in POLICY.splitlines() if "output" not in line)
    (tmp_path / "silent.yaml").write_text(silent)
    words = ["judge", str(here / "white.png"), "--policy", str(tmp_path / "silent.yaml")]
    code = run([*words, "--detector", "judge", "--model", str(here / "model"), "--json"])
    (here / "model" / "judge.json").unlink()
    assert code == 1
    scores = document(capsys)["images"][0]["scores"]
    assert [(each["threshold"], each["flagged"]) for each in scores] == [(0.99, False), (0.1, True)]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--policy", "kidz"], 2, "Did you mean kids"),
        (["--detector", "jugde", "--policy", "kids"], 2, "Did you mean judge"),
        (["--policy", "observe"], 2, "names no detector of pictures"),
        (["--model", "/nowhere/at/all", "--policy", "kids"], 2, "cannot be loaded"),
    ],
)
def test_bad_words_are_one_message(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert run(["judge", str(here / "white.png"), *words]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert "Traceback" not in said.err


def test_files_that_are_not_there_are_reported_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loads(*_: object, **__: object) -> None:
        raise AssertionError("a detector was loaded")

    monkeypatch.setattr("tadasu.cli.judge._detectors", loads)
    assert run(["judge", "missing.png"]) == 2
    assert "There is no such file: 'missing.png'" in capsys.readouterr().err


def test_names_that_are_no_text_are_printed_safely(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = here / os.fsdecode(b"\x1b[31m\xff.png")
    Image.new("RGB", (16, 16), "black").save(odd, format="PNG")
    assert judged(here, odd.name)[0] == 0
    assert "\x1b[31m" not in capsys.readouterr().out
    assert judged(here, odd.name, "--json")[0] == 0
    assert document(capsys)["images"][0]["file"].endswith("\x1b[31m\\xff.png")
