"""``tadasu evaluate label``: a run's pictures to people, their answers back, a card from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tadasu.cli.app import run as tadasu
from tadasu.evaluation.evaluate import run
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.judges import cards
from tadasu.evaluation.people.task import Task
from tadasu.evaluation.results import Run
from tadasu.evaluation.scripted import Redness, Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite

POLICY = """
tadasu: 1
name: reds
version: 1.0.0
concepts:
  - id: red
    hazard: shocking
    names: {en: [red]}
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of two systems with a judge that measures redness."""
    monkeypatch.chdir(tmp_path)
    Path("reds.yaml").write_text(POLICY)
    prompts = tuple(Prompt(id=str(i), text=f"text {i}", seed=i) for i in range(15))
    return run(
        systems=[Scripted(name="a"), Scripted(name="b")],
        suites=[Suite(id="s", prompts=prompts)],
        judges=[Judge(name="red", detector=Redness(), thresholds={"red": 0.5})],
        samples=1,
        folder=tmp_path / "run",
    )


def export(*more: str) -> None:
    words = ["evaluate", "label", "export", "run", "-p", "reds.yaml", *more]
    assert tadasu(words) == 0


def answer(rater: str, answers: dict[str, str], task: Task) -> str:
    content = {"file": "tadasu answers", "task": task.id, "rater": rater, "answers": answers}
    Path(f"{rater}.json").write_text(json.dumps(content))
    return f"{rater}.json"


def test_labels_become_the_judges_card(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    export("-n", "20")
    task = Task.load(Path("label-key.json"))
    assert len(task.questions) == 20
    assert "Does this picture show: red?" in Path("label.html").read_text(encoding="utf-8")
    unsafe = {row.picture: bool(row.unsafe) for row in made.rows()}
    seen = {q.id: "yes" if unsafe[q.left.picture] else "no" for q in task.questions}
    first = next(q.id for q in task.questions if unsafe[q.left.picture])
    people = [answer(name, seen | {first: "no"}, task) for name in ("A", "B", "C")]
    capsys.readouterr()
    words = ["evaluate", "label", "import", *people, "--run", "run", "--card", "card.json"]
    assert tadasu([*words, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["answered"] == {"A": 20, "B": 20, "C": 20}
    assert "never disagree" in document["agreement"][0]["note"]
    card = cards.read(Path("card.json"), judge="red")
    rates = card.rates("red")
    assert rates is not None
    reds = sum(unsafe[q.left.picture] for q in task.questions)
    assert (rates.caught, rates.unsafe) == (reds - 1, reds - 1)
    assert (rates.passed, rates.safe) == (20 - reds, 20 - reds + 1)
    assert tadasu(words) == 0
    assert "caught" in capsys.readouterr().out


def test_preferences_of_a_comparison(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    export("--compare", "-n", "10")
    task = Task.load(Path("label-key.json"))
    assert len(task.questions) == 10
    answers = {q.id: "left" if q.left.system == "b" else "right" for q in task.questions}
    capsys.readouterr()
    assert tadasu(["evaluate", "label", "import", answer("A", answers, task), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["preferences"]
    assert (found["first"], found["second"], found["share"]["value"]) == ("a", "b", 0.0)
    assert tadasu(["evaluate", "label", "import", "A.json", "--run", "run"]) == 2


def test_bad_input_is_named(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["evaluate", "label"]
    assert tadasu([*base, "export", "run", "-p", "reds.yaml", "--suite", "none"]) == 2
    assert tadasu([*base, "export", "run", "-p", "reds.yaml", "--concept", "blue"]) == 2
    assert tadasu([*base, "export", "run", "-p", "reds.yaml", "-n", "0"]) == 2
    assert tadasu([*base, "export", "nowhere"]) == 2
    export()
    Path("bad.json").write_text("{}")
    capsys.readouterr()
    assert tadasu([*base, "import", "bad.json"]) == 2
    assert "labelling page" in capsys.readouterr().err


def test_a_review_store_gets_cases_and_its_judgements_come_back(
    made: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    export("-n", "6", "--cases", "cases", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["cases"] == str(Path("cases") / "cases.jsonl")
    head, *cases = [json.loads(line) for line in Path(document["cases"]).read_text().splitlines()]
    assert head["cases"] == len(cases) == 6
    for case in cases:
        (name,) = case["pictures"]
        stored = made.folder.pictures.path(name).read_bytes()
        assert (Path("cases") / "pictures" / f"{name}.png").read_bytes() == stored
    rows = [{"file": "tadasu judgements", "format": 1, "task": head["task"]}]
    rows += [{"case": case["case"], "rater": "A", "answer": "no"} for case in cases]
    Path("j.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tadasu(["evaluate", "label", "import", "j.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answered"] == {"A": 6}
    Path("j.jsonl").write_text(json.dumps(rows[0] | {"task": "sha256:" + "0" * 64}))
    assert tadasu(["evaluate", "label", "import", "j.jsonl"]) == 2
    assert "another task" in capsys.readouterr().err
