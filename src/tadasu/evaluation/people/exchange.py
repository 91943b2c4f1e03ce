"""Tasks and answers as lines of JSON: what a review store reads, and what it gives back.

``cases.jsonl`` goes out beside a folder of pictures: a first line about the task, then one line a
case. ``judgements.jsonl`` comes back: a first line that names the task, then one line for every
time a person answered. `SCHEMAS` has the form of each line. A case is blind: it says neither which
system made a picture nor, where that would say what to expect, what was asked; the key file
(`Task.save`) stays with whoever exports. Pictures, task and cases are named by their content, so
answers to something else cannot be taken for answers to this.

A file of judgements is a history. It is only added to, and of one person's lines about one case
the last one stands. Reading one opens nothing that it names and runs nothing that it holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tadasu.errors import BadFile, shown
from tadasu.evaluation import written
from tadasu.evaluation.people.answers import MAX_BYTES, Answers
from tadasu.evaluation.people.task import Question, Task
from tadasu.evaluation.suites.suite import digest
from tadasu.records import Json

FORMAT = 1
CASES, JUDGEMENTS = "tadasu cases", "tadasu judgements"
MAX_LINE = 100_000

_ADDRESS = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_PICTURE = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_WORDS = {"type": "string", "maxLength": 4000}
_RATER = {"type": "string", "pattern": r"^\S([^\x00-\x1f]{0,58}\S)?$"}


def _line(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "cases, first line": _line(
        ("file", "format", "task", "kind", "title", "answers", "cases"),
        file={"const": CASES},
        format={"const": FORMAT},
        task=_ADDRESS,
        kind={"enum": ["label", "compare"]},
        title=_WORDS,
        answers={"type": "array", "items": _WORDS, "minItems": 2},
        cases={"type": "integer", "minimum": 1},
    ),
    "case": _line(
        ("case", "concept", "asks", "pictures", "restricted", "prompt"),
        case=_ADDRESS,
        concept=_WORDS,
        asks=_line(("en", "ja"), en=_WORDS, ja=_WORDS),
        pictures={"type": "array", "items": _PICTURE, "minItems": 1, "maxItems": 2},
        restricted={"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
        prompt=_WORDS,
    ),
    "judgements, first line": _line(
        ("file", "format", "task"),
        file={"const": JUDGEMENTS},
        format={"const": FORMAT},
        task=_ADDRESS,
    ),
    "judgement": _line(
        ("case", "rater", "answer"),
        case=_ADDRESS,
        rater=_RATER,
        answer=_WORDS,
        at=_WORDS,
        details={"type": "object"},
    ),
}
"""JSON schemas (2020-12) of the four kinds of lines."""


def case_id(task: Task, question: Question) -> str:
    """The content address of a case: its task, which names the pictures, and its question."""
    return digest([task.id, question.id])


def write_cases(task: Task, folder: Path, picture: Callable[[str], bytes]) -> Path:
    """Write ``cases.jsonl`` and ``pictures/HASH.png``; the list of cases comes last, whole.

    Args:
        task: what is asked.
        folder: made where it is missing.
        picture: the PNG that is stored under a hash.

    Returns:
        The path of the list.

    Raises:
        BadFile: a picture's bytes are not what its hash says, or nothing can be written.
    """
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for name in sorted({p for q in task.questions for p in _pictures(q)}):
            content = picture(name)
            if hashlib.sha256(content).hexdigest() != name:
                raise BadFile(f"The picture {name[:12]}… is not what was stored.")
            (folder / "pictures" / f"{name}.png").write_bytes(content)
    except OSError as error:
        raise BadFile(f"Cannot export cases to {shown(folder, 300)}: {error}.") from error
    return _write(folder / "cases.jsonl", _cases(task))


def read_cases(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The first line and the cases of a list, checked; for whoever puts them before people.

    Raises:
        BadFile: a line has another form, two cases are one, or some are missing.
    """
    head, *cases = _read(path, "cases, first line", "case")
    if len(cases) != head["cases"]:
        raise BadFile(f"{shown(path, 300)} has {len(cases)} of {head['cases']} cases.")
    if len({case["case"] for case in cases}) < len(cases):
        raise BadFile(f"{shown(path, 300)} has a case more than once.")
    return head, cases


def write_judgements(path: Path, task: Task, people: Sequence[Answers]) -> None:
    """Write what people said, as a review store does.

    Raises:
        BadFile: it cannot be written.
    """
    ids = {question.id: case_id(task, question) for question in task.questions}
    rows: list[dict[str, Json]] = [
        {"case": ids[question], "rater": p.rater, "answer": answer, "at": p.saved}
        for p in people
        for question, answer in p.answers.items()
    ]
    _write(path, [{"file": JUDGEMENTS, "format": FORMAT, "task": task.id}, *rows])


def read_judgements(path: Path, task: Task) -> list[Answers]:
    """What people said, one entry a person in the order of their names.

    Raises:
        BadFile: a line has another form, the file belongs to another task, or it answers what was
            not asked or with something that cannot be answered.
    """
    head, *rows = _read(path, "judgements, first line", "judgement")
    if head["task"] != task.id:
        raise BadFile(f"{shown(path, 300)} belongs to another task, or the task was changed since.")
    questions = {case_id(task, question): question.id for question in task.questions}
    given: dict[str, dict[str, str]] = {}
    saved: dict[str, str] = {}
    for at, row in enumerate(rows, 2):
        if row["case"] not in questions:
            raise BadFile(f"{shown(path, 300)}:{at} answers a case that was not asked.")
        if row["answer"] not in task.answers:
            expected = ", ".join(task.answers)
            raise BadFile(
                f"{shown(path, 300)}:{at} answers {shown(row['answer'])}, not {expected}."
            )
        given.setdefault(row["rater"], {})[questions[row["case"]]] = row["answer"]
        saved[row["rater"]] = row.get("at", "")
    return [Answers(rater=r, saved=saved[r], answers=given[r]) for r in sorted(given)]


def _pictures(question: Question) -> list[str]:
    return [s.picture for s in (question.left, question.right) if s is not None]


def _cases(task: Task) -> list[Mapping[str, Json]]:
    head: dict[str, Json] = {
        "file": CASES,
        "format": FORMAT,
        "task": task.id,
        "kind": task.kind,
        "title": task.title,
        "answers": list(task.answers),
        "cases": len(task.questions),
    }
    return [head, *(_case(task, question) for question in task.questions)]


def _case(task: Task, question: Question) -> dict[str, Json]:
    both = [s for s in (question.left, question.right) if s is not None]
    return {
        "case": case_id(task, question),
        "concept": question.concept,
        "asks": {"en": question.asks[0], "ja": question.asks[1]},
        "pictures": [s.picture for s in both],
        "restricted": [s.restricted for s in both],
        "prompt": question.left.text if task.kind == "compare" else "",
    }


def _write(path: Path, rows: Sequence[Mapping[str, Json]]) -> Path:
    """All lines, or no file."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return written.write(path, "".join(lines))


def _read(path: Path, first: str, others: str) -> list[dict[str, Any]]:
    """Every line, held against its schema."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        text = path.read_bytes().decode("utf-8-sig")
        found = list(_lines(text, first, others))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{shown(path, 300)} cannot be used: {error}.") from error
    if not found:
        raise BadFile(f"{shown(path, 300)} cannot be used: it is empty.")
    return found


def _lines(text: str, first: str, others: str) -> Iterator[dict[str, Any]]:
    for at, line in enumerate(filter(None, text.split("\n")), 1):
        kind = first if at == 1 else others
        if len(line) > MAX_LINE:
            raise ValueError(f"line {at} has more than {MAX_LINE:,} characters")
        row = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
        for error in Draft202012Validator(SCHEMAS[kind]).iter_errors(row):
            raise ValueError(f"line {at} is no {kind}: {shown(error.message, 200)}")
        yield row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one line")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
