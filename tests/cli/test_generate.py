"""``tadasu generate`` from the words on the command line to files, records and exit codes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tadasu import world
from tadasu.cli.app import run

FAST = ["--steps", "2"]


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_pictures_and_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["generate", "a red apple", "a pistol", "-n", "2", "--seed", "5", "--policy", "kids"]
    assert run([*words, *FAST, "--out", str(out), "--json"]) == 0
    document = _json(capsys)
    assert document["policy"]["name"] == "kids"
    images = document["images"]
    assert [(each["prompt"], each["seed"]) for each in images] == [
        ("a red apple", 5),
        ("a red apple", 6),
        ("a pistol", 5),
        ("a pistol", 6),
    ]
    assert [each["decision"] for each in images[2:]] == ["block", "block"]
    assert all(each["file"] is None and each["reasons"] for each in images[2:])
    for each in images:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", each["system"])
        for score in each["scores"]:
            assert {"detector", "concept", "value", "unit"} <= set(score)
    written = {each["file"] for each in images if each["file"]}
    assert written == {str(file) for file in out.iterdir()}
    for file in written:
        with Image.open(file) as picture:
            assert picture.size == (32, 32) or picture.size == (64, 64)


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    words = ["generate", "a red apple", *FAST, "--policy", "observe"]
    assert run([*words, "--out", str(tmp_path / "a")]) == 0
    assert run([*words, "--out", str(tmp_path / "b")]) == 0
    (first,), (second,) = ((tmp_path / name).iterdir() for name in "ab")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["   "], "empty"),
        (["a" * 10_000], "10,000 characters"),
        (["a\x07cat"], "control character"),
        (["a cat", "--policy", "kid"], "Did you mean kids"),
        (["a cat", "--guidance", "sdl"], "Did you mean sld"),
        (["a cat", "--guidance", "sld:scale=nan"], "finite"),
        (["a cat", "--guidance", "sld:warmpu=0.1"], "warmup"),
        (["a cat", "--model", "/nowhere/at/all"], "no model folder"),
        (["a cat", "-n", "0"], "0 pictures"),
        (["a cat", "--seed", "-1"], "seed"),
        (["a cat", "--scale", "nan"], "guidance_scale"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    out = tmp_path / "out"
    assert run(["generate", *words, *FAST, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("error:") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not out.exists()


def test_a_model_folder_that_lacks_a_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(world.folder("pipeline"), broken)
    shutil.rmtree(broken / "unet")
    words = ["generate", "a cat", "--model", str(broken), "--judge", "world"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 2
    assert "lacks the parts unet" in capsys.readouterr().err


def test_another_model_needs_a_judge_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "model"
    shutil.copytree(world.folder("pipeline"), other)
    words = ["generate", "a cat", *FAST, "--out", str(tmp_path / "out"), "--model", str(other)]
    assert run(words) == 2
    assert "judge" in capsys.readouterr().err
    assert run([*words, "--judge", "world"]) == 0


def test_an_output_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert run(["generate", "a cat", *FAST, "--out", str(file)]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert file.read_text() == "mine"
