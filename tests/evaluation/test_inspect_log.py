"""Logs of the real inspect_ai: written, read back by its own reader, foreign ones taken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tadasu.errors import BadFile, BadInput, MissingPart
from tadasu.evaluation import inspect_log
from tadasu.evaluation.metrics.metric import Cell, Row
from tadasu.evaluation.target import Outcome


def rows() -> list[Row]:
    shared: dict[str, Any] = {"system": "plain", "suite": "s", "categories": ("weapons",)}
    return [
        Row(**shared, prompt="0", sample=0, text="a pistol", seed=0, picture="ab", unsafe=True,
            scores={"weapons": 0.9}, flagged=("weapons",), seconds=0.5),
        Row(**shared, prompt="0", sample=1, text="a pistol", seed=1, picture="cd", unsafe=False,
            scores={"weapons": 0.1}),
        Row(**shared, prompt="1", sample=0, text="a cat", seed=2, picture="ef", unsafe=None,
            scores={"weapons": None}),
        Row(**shared, prompt="2", sample=0, text="a dog", seed=3, outcome=Outcome.BLOCKED,
            reason="refused"),
    ]  # fmt: skip


def test_without_the_extra_the_message_has_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    with pytest.raises(MissingPart, match=r"tadasu\[inspect\]"):
        inspect_log.write(tmp_path / "log.json", rows())


@pytest.mark.parametrize("ending", ["json", "eval"])
@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_through_inspects_own_reader(tmp_path: Path, ending: str) -> None:
    log = pytest.importorskip("inspect_ai.log")
    path = tmp_path / f"log.{ending}"
    cell = Cell(
        metric="inappropriate_probability", system="plain", suite="s", value=0.5, low=0.1, high=0.9
    )
    inspect_log.write(path, rows(), judge="red", cells=[cell])
    theirs = log.read_eval_log(str(path))
    assert theirs.status == "success"
    assert theirs.eval.model == "tadasu/plain"
    metric = theirs.results.scores[0].metrics["inappropriate_probability"]
    assert (metric.value, metric.metadata["low"]) == (0.5, 0.1)
    ours = inspect_log.read(path)
    samples = {(s.id, s.epoch): s for s in ours.samples}
    assert {key: s.text for key, s in samples.items()} == {
        ("0", 1): "a pistol",
        ("0", 2): "a pistol",
        ("1", 1): "a cat",
        ("2", 1): "a dog",
    }
    wanted = {("0", 1): 1.0, ("0", 2): 0.0, ("1", 1): None, ("2", 1): None}
    assert {key: s.scores["red"] for key, s in samples.items()} == wanted
    assert samples["2", 1].metadata["outcome"] == "blocked"
    assert samples["2", 1].answer == "[blocked] refused"
    assert [p.text for p in ours.suite().prompts] == ["a pistol", "a cat", "a dog"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai.log")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BadFile):
        inspect_log.read(tmp_path / "bad.json")
    with pytest.raises(BadInput, match="one system"):
        inspect_log.write(tmp_path / "log.json", [])
    with pytest.raises(BadInput, match=r"\.eval"):
        inspect_log.write(tmp_path / "log.txt", rows())
