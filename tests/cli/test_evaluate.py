"""``tadasu evaluate`` from a YAML file to tables, reports and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tadasu.cli.app import run

SPEC = """
title: Two systems
model: world
sampler: {steps: 2, batch_size: 4}
systems:
  - {name: plain}
  - {name: negative, guidance: negative_prompt}
suites:
  - {suite: explicit, n: 3}
  - {suite: own.yaml, samples: 2}
judges:
  - {detector: judge, model: world}
encoder: world
"""
OWN = "suite: own\nmeasures: [shows]\nprompts: [{text: a cat, shows: [cat]}, {text: a dog}]\n"


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    (folder / "own.yaml").write_text(OWN, encoding="utf-8")
    return folder


def test_run_report_rejudge_and_compare(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(place / "run")
    words = ["evaluate", "run", str(place / "spec.yaml"), "--out", out, "--json"]
    assert run(words) == 0
    found = document(capsys)
    assert found["systems"] == ["plain", "negative"]
    assert found["missing"] == 0
    counted = {(c["metric"], c["system"], c["suite"]): c["n"] for c in found["cells"]}
    assert counted["inappropriate_probability", "plain", "explicit"] == 3
    assert counted["over_blocking", "negative", "own"] == 4
    assert counted["shows", "plain", "own"] == 2
    for cell in found["cells"]:
        assert cell["card"]
    for name in ("report.html", "report.md", "report.csv", "items.parquet", "scores.parquet"):
        assert (place / "run" / name).stat().st_size > 0
    assert "Two systems" in (place / "run" / "report.md").read_text(encoding="utf-8")
    lines = (place / "run" / "generations.jsonl").read_text().count("\n")

    assert run(["evaluate", "rejudge", out, str(place / "spec.yaml"), "--json"]) == 0
    assert document(capsys)["cells"] == found["cells"]
    assert (place / "run" / "generations.jsonl").read_text().count("\n") == lines

    report = place / "again.md"
    assert run(["evaluate", "report", out, "--out", str(report), "--json"]) == 0
    assert document(capsys)["file"] == str(report)
    assert report.stat().st_size > 0

    pair = ["--systems", "plain=negative"]
    assert run(["evaluate", "compare", out, out, *pair, "--json"]) in (0, 1)
    tests = document(capsys)["tests"]
    assert {test["metric"] for test in tests} >= {"served_unsafe", "shows"}
    assert run(["evaluate", "compare", out, out, "--systems", "plain=plain"]) == 0


def test_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "suites", "--json"]) == 0
    found = {suite["id"]: suite for suite in document(capsys)["suites"]}
    assert found["explicit"]["measures"] == ["unsafe"]
    assert found["scenes"]["measures"] == ["shows", "unsafe"]
    assert run(["evaluate", "suites", "benign"]) == 0
    assert "benign" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("systems:", "sytems:"), "Did you mean 'systems'"),
        (("negative_prompt", "negativ_prompt"), "Did you mean negative_prompt"),
        (("suite: explicit", "suite: explizit"), "Did you mean explicit"),
        (("{detector: judge, model: world}", "{detector: judj}"), "Did you mean judge"),
        (("{detector: judge, model: world}", "{detector: nudenet}"), "no thresholds"),
        (("{detector: judge, model: world}", "{detector: judge}"), "needs a model"),
        (("name: negative", "name: plain"), "Two systems are called plain"),
        (("steps: 2", "steps: 0"), "spec.yaml"),
    ],
)
def test_bad_documents_say_what_is_wrong(
    change: tuple[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC.replace(*change), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    assert run(["evaluate", "run", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "r")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in re.sub(r"\s+", " ", printed.err)
    assert not (tmp_path / "r" / "pictures").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["report", "nowhere"], "holds no run"),
        (["compare", "nowhere", "nowhere"], "holds no run"),
        (["compare", "a", "b", "--systems", "x"], "FIRST=SECOND"),
        (["suites", "i2p"], "not bundled"),
        (["run", "absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_words_are_one_message_and_exit_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *words]) == 2
    assert says in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_a_second_run_that_fell_short_is_exit_code_1(tmp_path: Path) -> None:
    from tadasu.evaluation.evaluate import run as evaluated
    from tadasu.evaluation.judge import Judge
    from tadasu.evaluation.scripted import Redness, Scripted
    from tadasu.evaluation.suites.suite import Prompt, Suite

    good = Suite(
        id="good",
        prompts=tuple(Prompt(id=str(i), text=f"g{i}") for i in range(12)),
        measures=("shows",),
    )
    refusing = tuple(f"g{i}" for i in range(12))
    for name, blocks in (("a", ()), ("b", refusing)):
        evaluated(
            systems=[Scripted(name="x", blocks=blocks)],
            suites=[good],
            judges=[Judge(name="red", detector=Redness(), thresholds={"red": 0.5})],
            folder=tmp_path / name,
        )
    assert run(["evaluate", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert run(["evaluate", "compare", str(tmp_path / "b"), str(tmp_path / "a")]) == 0


EXAMPLES = Path(__file__).parents[2] / "examples" / "evaluation"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_can_be_read(file: Path) -> None:
    from tadasu.cli.evaluate import surroundings
    from tadasu.evaluation.spec import Spec

    spec = Spec(file)
    assert spec.suites(surroundings(None))
    for entry in spec.content["systems"]:
        if "guidance" in entry:
            from tadasu.guidance.registry import parse

            parse(entry["guidance"])


def test_the_matrix_names_what_the_world_has() -> None:
    """Every restricted label is in the edit but the one that the model never learned."""
    from tadasu import world
    from tadasu.evaluation.spec import Spec

    card = json.loads((world.folder("judge") / "judge.json").read_text(encoding="utf-8"))
    restricted = {label for labels in card["labels"].values() for label in labels}
    (edit,) = (e for e in Spec(EXAMPLES / "matrix.yaml").content["systems"] if "erase" in e)
    assert restricted - set(edit["erase"]["names"]) == {"goblin"}
