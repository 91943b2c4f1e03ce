"""``tadasu compare``: the grid shows the plain pipeline and each rule from the same seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadasu.cli.app import run
from tadasu.cli.compare import GAP, HEADING, grid, split_rules
from tadasu.errors import BadInput

WORDS = ["compare", "a red apple", "--negative", "a pistol", "--steps", "2", "-n", "2"]


def test_a_rule_of_strength_nothing_repeats_the_first_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grid.png"
    rules = "sld:max,sega:scale=0,warmup=0"
    assert run([*WORDS, "--guidance", rules, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["columns"] == ["none", "sld:max", "sega:scale=0,warmup=0"]
    assert said["seeds"] == [0, 1]
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=float)
    width = (pixels.shape[1] - GAP) // 3
    parts = [pixels[HEADING:, GAP + i * width : (i + 1) * width] for i in range(3)]
    assert np.abs(parts[0] - parts[2]).max() <= 1
    assert np.abs(parts[0] - parts[1]).max() > 1
    assert list(tmp_path.iterdir()) == [out]


def test_the_grid_has_a_place_for_every_picture() -> None:
    red, blue = Image.new("RGB", (48, 48), "red"), Image.new("RGB", (48, 48), "blue")
    sheet = grid([("a", [red, blue]), ("b", [blue, red])])
    assert sheet.size == (2 * (96 + GAP) + GAP, 2 * (96 + GAP) + GAP + HEADING)
    middle = GAP + 48, HEADING + GAP + 48
    assert sheet.getpixel(middle) == (255, 0, 0)
    assert sheet.getpixel((middle[0] + 96 + GAP, middle[1])) == (0, 0, 255)
    assert sheet.getpixel((middle[0], middle[1] + 96 + GAP)) == (0, 0, 255)


@pytest.mark.parametrize("text", ["", " , ", "scale=3"])
def test_no_rule(text: str) -> None:
    with pytest.raises(BadInput):
        split_rules(text)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--guidance", "sdl"], "sld"),
        (["--negative", " "], "empty"),
        (["-n", "0"], "from 1 to 64"),
        (["--model", "/nowhere/at/all"], "no model folder"),
    ],
)
def test_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    out = tmp_path / "grid.png"
    assert run([*WORDS, "--out", str(out), *more]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()
