"""Cases out, judgements in: what a review store reads and gives back comes through whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tadasu.concepts import Concept
from tadasu.errors import BadFile
from tadasu.evaluation.people import exchange
from tadasu.evaluation.people.answers import Answers, read_all
from tadasu.evaluation.people.summary import agreement, preferences, truth
from tadasu.evaluation.people.task import Shown, Task, compare_task, label_task

CAT = Concept(id="cat", names={"en": ("a cat",), "ja": ("猫",)}, hazard="shocking")
STORED = {hashlib.sha256(f"png {i}".encode()).hexdigest(): f"png {i}".encode() for i in range(6)}


def pictures() -> list[Shown]:
    return [
        Shown(
            picture=name,
            system=f"secretly {at % 2}",
            suite="s",
            prompt=f"p{at // 2}",
            sample=0,
            text=f"prompt {at // 2}",
            restricted=at > 2,
        )
        for at, name in enumerate(STORED)
    ]


LABEL = label_task(pictures(), [CAT], title="Cats", seed=1)
COMPARE = compare_task(pictures(), title="Which?", seed=1)
BOTH = pytest.mark.parametrize("task", [LABEL, COMPARE], ids=["label", "compare"])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def store_answers(cases: Path, out: Path, **answers: list[str]) -> Path:
    """What a review store does that knows the schemas and nothing else of this library."""
    head, *asked = lines(cases)
    rows = [{"file": "tadasu judgements", "format": 1, "task": head["task"]}]
    for rater, given in answers.items():
        rows += [
            {"case": case["case"], "rater": rater, "answer": said, "at": "2026-11-22T03:00:00Z"}
            for case, said in zip(asked, given, strict=True)
        ]
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return out


@BOTH
def test_cases_are_blind_addressed_by_content_and_read_back(task: Task, tmp_path: Path) -> None:
    path = exchange.write_cases(task, tmp_path, STORED.__getitem__)
    head, cases = exchange.read_cases(path)
    assert (head["task"], head["kind"], head["answers"]) == (task.id, task.kind, list(task.answers))
    assert len({case["case"] for case in cases}) == len(cases) == len(task.questions)
    assert "secretly" not in path.read_text(encoding="utf-8")
    assert "suite" not in path.read_text(encoding="utf-8")
    for case, question in zip(cases, task.questions, strict=True):
        assert case["pictures"][0] == question.left.picture
        assert case["restricted"][0] == question.left.restricted
        assert case["asks"]["ja"] == question.asks[1]
        assert case["prompt"] == (question.left.text if task.kind == "compare" else "")
    for name, content in STORED.items():
        assert (tmp_path / "pictures" / f"{name}.png").read_bytes() == content
    changed = label_task(pictures()[:5], [CAT], title="Cats", seed=1)
    assert exchange.case_id(changed, changed.questions[0]) not in {case["case"] for case in cases}


@BOTH
def test_judgements_of_a_store_are_those_of_a_page(task: Task, tmp_path: Path) -> None:
    path = exchange.write_cases(task, tmp_path, STORED.__getitem__)
    count = len(task.questions)
    one = [task.answers[i % 2] for i in range(count)]
    two = [task.answers[i % 3] for i in range(count)]
    found = exchange.read_judgements(store_answers(path, tmp_path / "j.jsonl", B=two, A=one), task)
    ids = [question.id for question in task.questions]
    saved = "2026-11-22T03:00:00Z"
    expected = [
        Answers(rater="A", saved=saved, answers=dict(zip(ids, one, strict=True))),
        Answers(rater="B", saved=saved, answers=dict(zip(ids, two, strict=True))),
    ]
    assert found == expected
    exchange.write_judgements(tmp_path / "again.jsonl", task, found)
    assert exchange.read_judgements(tmp_path / "again.jsonl", task) == found
    page = {"file": "tadasu answers", "task": task.id, "rater": "C", "answers": {ids[0]: one[0]}}
    (tmp_path / "c.json").write_text(json.dumps(page), encoding="utf-8")
    mixed = read_all([tmp_path / "c.json", tmp_path / "j.jsonl"], task)
    assert [person.rater for person in mixed] == ["A", "B", "C"]
    assert mixed[:2] == expected
    assert agreement(task, found)
    assert truth(task, found) if task.kind == "label" else preferences(task, found)


def test_a_history_is_added_to_and_the_last_line_stands(tmp_path: Path) -> None:
    path = exchange.write_cases(LABEL, tmp_path, STORED.__getitem__)
    file = store_answers(path, tmp_path / "j.jsonl", A=["yes"] * len(LABEL.questions))
    first = lines(path)[1]["case"]
    later = {"case": first, "rater": "A", "answer": "no", "details": {"revealed": True}}
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(later) + "\n")
    (person,) = exchange.read_judgements(file, LABEL)
    assert person.answers[LABEL.questions[0].id] == "no"
    assert list(person.answers.values()).count("yes") == len(LABEL.questions) - 1


def test_a_picture_that_was_changed_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="not what was stored"):
        exchange.write_cases(LABEL, tmp_path, lambda name: b"another")
    assert not (tmp_path / "cases.jsonl").exists()

    def gone(name: str) -> bytes:
        raise FileNotFoundError(name)

    with pytest.raises(BadFile, match="Cannot export"):
        exchange.write_cases(LABEL, tmp_path, gone)
    assert not (tmp_path / "cases.jsonl").exists()


CASE = exchange.case_id(LABEL, LABEL.questions[0])
HEAD = {"file": "tadasu judgements", "format": 1, "task": LABEL.id}
ROW = {"case": CASE, "rater": "A", "answer": "yes"}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "it is empty"),
        ([ROW], "line 1 is no judgements, first line"),
        ([HEAD | {"format": 2}, ROW], "line 1"),
        ([HEAD | {"task": COMPARE.id}, ROW], "another task"),
        ([HEAD, ROW | {"case": "sha256:" + "0" * 64}], ":2 answers a case that was not asked"),
        ([HEAD, ROW | {"case": "../../etc/passwd"}], "line 2 is no judgement"),
        ([HEAD, ROW | {"answer": "maybe"}], "maybe"),
        ([HEAD, ROW | {"answer": ["yes"]}], "line 2"),
        ([HEAD, ROW | {"rater": " "}], "line 2"),
        ([HEAD, ROW | {"rater": "a\nb"}], "line 2"),
        ([HEAD, ROW | {"system": "plain"}], "system"),
        ([HEAD, {"case": CASE, "answer": "yes"}], "rater"),
    ],
)
def test_what_is_no_judgement_is_refused(rows: list[Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(BadFile, match=says):
        exchange.read_judgements(file, LABEL)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\x00\x01", "cannot be used"),
        ('{"file": ', "cannot be used"),
        (json.dumps(HEAD) + '\n{"case": 1, "case": 2}', "twice"),
        (json.dumps(HEAD) + '\n{"case": NaN}', "NaN"),
        (json.dumps(HEAD) + "\n" + "[" * 90_000, "cannot be used"),
        (json.dumps(HEAD) + "\n" + " " * 100_001, "more than 100,000 characters"),
    ],
)
def test_hostile_files_are_refused_with_a_message(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadFile, match=says):
        exchange.read_judgements(file, LABEL)
    with pytest.raises(BadFile, match="cannot be used"):
        exchange.read_judgements(tmp_path / "absent.jsonl", LABEL)


def test_cases_that_lack_some_or_have_one_twice_are_refused(tmp_path: Path) -> None:
    path = exchange.write_cases(LABEL, tmp_path, STORED.__getitem__)
    whole = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(whole[:-1]), encoding="utf-8")
    with pytest.raises(BadFile, match="5 of 6"):
        exchange.read_cases(path)
    path.write_text("".join([*whole[:-1], whole[1]]), encoding="utf-8")
    with pytest.raises(BadFile, match="more than once"):
        exchange.read_cases(path)


def test_the_page_documents_every_field() -> None:
    text = (Path(__file__).parents[3] / "docs" / "evaluation" / "people.md").read_text("utf-8")
    for schema in exchange.SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
        assert [name for name in schema["properties"] if f"`{name}`" not in text] == []
