"""Answers of people: read back, checked against their task, and put side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tadasu.errors import BadFile, shown
from tadasu.evaluation.people.task import Task

KIND = "tadasu answers"
MAX_BYTES = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one person said.

    Attributes:
        rater: name or number.
        saved: when, as the page wrote it down.
        answers: question to answer; questions that were skipped are missing.
    """

    rater: str
    saved: str
    answers: Mapping[str, str]


def read(path: Path, task: Task) -> Answers:
    """One person's file.

    Raises:
        BadFile: it is no such file, belongs to another task, has no rater, or answers a question
            that was not asked or with something that cannot be answered.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict) or content.get("file") != KIND:
            raise ValueError("it was not saved by a labelling page")
        if content["task"] != task.id:
            raise ValueError("it belongs to another task, or the task was changed since")
        rater, answers = content["rater"], content["answers"]
        if not isinstance(rater, str) or not rater.strip():
            raise ValueError("it does not say who answered")
        if not isinstance(answers, dict):
            raise ValueError("its answers are no mapping")
        _check(answers, task)
        return Answers(rater=rater.strip(), saved=str(content.get("saved", "")), answers=answers)
    except (OSError, ValueError, KeyError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise BadFile(f"{shown(path, 300)} cannot be used: {reason}.") from error


def read_all(paths: Sequence[Path], task: Task) -> list[Answers]:
    """Files of several people, in the order of their names.

    Args:
        paths: what pages saved, or judgements of a review store (``.jsonl``), also mixed.
        task: what was asked.

    Raises:
        BadFile: as `read` and `read_judgements`; or one person handed in two files that differ.
    """
    from tadasu.evaluation.people.exchange import read_judgements

    found: dict[str, Answers] = {}
    for path in paths:
        many = read_judgements(path, task) if path.suffix == ".jsonl" else [read(path, task)]
        for one in many:
            before = found.get(one.rater)
            if before is not None and dict(before.answers) != dict(one.answers):
                raise BadFile(
                    f"{shown(path, 300)}: {shown(one.rater)} handed in another file with other "
                    "answers; keep the one that counts."
                )
            found[one.rater] = one
    return [found[name] for name in sorted(found)]


def _check(answers: Mapping[str, object], task: Task) -> None:
    known = {question.id for question in task.questions}
    for question, answer in answers.items():
        if question not in known:
            raise ValueError(f"it answers {shown(question)}, which was not asked")
        if answer not in task.answers:
            expected = ", ".join(task.answers)
            raise ValueError(f"{shown(question)} is answered with {shown(answer)}, not {expected}")
