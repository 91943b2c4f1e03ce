"""``tadasu calibrate``: thresholds, exit codes, the page, and tables that cannot be used."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tadasu.cli.calibrate import app
from tadasu.errors import BadFile, BadInput

RUN = CliRunner()


def table(path: Path, *, apart: float = 4.0, n: int = 400) -> str:
    rng = np.random.default_rng(3)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "answer", "unsafe"])
        for i in range(n):
            bad = i % 2 == 0
            row = rng.normal() + apart * bad, rng.normal() - apart * bad
            writer.writerow([*map(float, row), int(bad)])
    return str(path)


def test_a_certified_gate(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = RUN.invoke(app, ["align", table(tmp_path / "t.csv"), "--json", "--page", str(page)])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["certified"] is True
    assert said["gate"] == "and"
    assert said["flags"] == {"image": "above", "answer": "below"}
    assert said["missed"]["value"] <= 0.1
    assert said["tested"] == {"positive": 140, "negative": 140}
    chosen = [rule for rule in said["rules"] if rule["thresholds"] == said["thresholds"]]
    assert [rule["certified"] for rule in chosen] == [True]
    text = page.read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert "<circle" in text
    assert text.count("<polyline") == 2
    assert "認定" in text


def test_nothing_can_be_certified(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", apart=0.0)
    page = tmp_path / "page.html"
    done = RUN.invoke(
        app, ["align", file, "--missed", "0.05", "--false-alarms", "0.05", "--page", str(page)]
    )
    assert done.exit_code == 1
    assert "Nothing can be certified" in done.stdout
    assert "<circle" not in page.read_text(encoding="utf-8")


def test_only_the_answer_counts_with_post_only(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["align", table(tmp_path / "t.csv"), "--gate", "post_only", "--json"])
    assert done.exit_code == 0
    assert list(json.loads(done.stdout)["thresholds"]) == ["answer"]


def test_a_detector(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv")
    done = RUN.invoke(app, ["detector", file, "--score", "image"])
    assert done.exit_code == 0
    assert "flag where image >= " in done.stdout
    turned = RUN.invoke(app, ["detector", file, "--score", "answer", "--flags", "below"])
    assert "flag where answer <= " in turned.stdout


def test_bad_tables(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv")
    for arguments, kind, words in (
        (["detector", file, "--score", "no"], BadInput, "image, answer, unsafe"),
        (["detector", file, "--score", "image", "--label", "answer"], BadInput, "neither"),
        (["detector", str(tmp_path / "none.csv")], BadFile, "none.csv"),
    ):
        done = RUN.invoke(app, arguments)
        assert isinstance(done.exception, kind)
        assert words in str(done.exception)
    (tmp_path / "u.csv").write_text("score,unsafe\n,1\n")
    done = RUN.invoke(app, ["detector", str(tmp_path / "u.csv")])
    assert isinstance(done.exception, BadInput)
    assert "unscored" in str(done.exception)


def test_bundled_scores_run() -> None:
    """What -h of the detector shows runs as it stands."""
    done = RUN.invoke(app, ["detector", "world", "--missed", "0.1", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["certified"] is True


def test_bundled_answers_run() -> None:
    """The gate of answers alone can be certified; a promise nobody can keep is said to be one."""
    done = RUN.invoke(app, ["align", "world", "--gate", "post_only", "--missed", "0.1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["certified"] is True
    assert found["missed"]["value"] <= 0.1
    assert set(found["thresholds"]) == {"answer"}
    done = RUN.invoke(app, ["align", "world", "--missed", "0.001"])
    assert done.exit_code == 1
    assert "Nothing can be certified" in done.stdout


@pytest.mark.parametrize("value", ["0", "1", "-0.2"])
def test_limits_out_of_range(value: str, tmp_path: Path) -> None:
    done = RUN.invoke(app, ["align", table(tmp_path / "t.csv"), "--missed", value])
    assert isinstance(done.exception, BadInput)
