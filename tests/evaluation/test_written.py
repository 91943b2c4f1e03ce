"""On a full disk every file of an evaluation is whole or absent, and a message says so."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from tadasu.concepts import Concept
from tadasu.errors import BadFile, RunFailed
from tadasu.evaluation import written
from tadasu.evaluation.evaluate import rejudge, run
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.judge import Card, Judge
from tadasu.evaluation.judges import cards
from tadasu.evaluation.people import exchange, page
from tadasu.evaluation.people.answers import Answers
from tadasu.evaluation.people.task import Shown, label_task
from tadasu.evaluation.results import Run
from tadasu.evaluation.scripted import Redness, Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite

JUDGE = Judge(name="red", detector=Redness(), thresholds={"red": 0.5})
SUITE = Suite(id="s", prompts=tuple(Prompt(id=str(i), text=f"text {i}") for i in range(6)))
CAT = Concept(id="cat", names={"en": ("cat",)}, hazard="shocking")


@pytest.fixture
def done(tmp_path: Path) -> Run:
    return run(systems=[Scripted()], suites=[SUITE], judges=[JUDGE], folder=tmp_path / "run")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, texts are written half and then refused, as a full disk does it."""

    def half(path: Path, text: str, encoding: str) -> int:
        with path.open("w", encoding=encoding) as file:
            file.write(text[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(Path, "write_text", half)


def test_what_stood_there_stays(tmp_path: Path, full: Callable[[], None]) -> None:
    file = tmp_path / "new" / "a.txt"
    assert written.write(file, "before") == file
    full()
    with pytest.raises(BadFile, match="No space left"):
        written.write(file, "after")
    assert file.read_text(encoding="utf-8") == "before"
    assert [each.name for each in file.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["report.md", "report.csv", "card.json", "key.json", "page.html",
                                  "judgements.jsonl", "cases.jsonl"])  # fmt: skip
def test_no_part_of_a_report_card_or_task_is_left(
    name: str, done: Run, tmp_path: Path, full: Callable[[], None]
) -> None:
    row = done.rows()[0]
    asked = Shown(picture=row.picture, system="x", suite="s", prompt="0", sample=0, text="text 0")
    task = label_task([asked], [CAT], title="t")
    stored = done.folder.pictures
    people = [Answers(rater="A", saved="", answers={task.questions[0].id: "yes"})]
    out = tmp_path / "out"
    does: dict[str, Callable[[Path], object]] = {
        "report.md": done.report,
        "report.csv": done.report,
        "card.json": lambda path: cards.write(Card(data="d", measured="m"), path, judge="j"),
        "key.json": task.save,
        "page.html": lambda path: page.write(task, path, lambda shown: stored.read(shown.picture)),
        "judgements.jsonl": lambda path: exchange.write_judgements(path, task, people),
        "cases.jsonl": lambda path: exchange.write_cases(
            task, path.parent, lambda picture: stored.path(picture).read_bytes()
        ),
    }
    full()
    with pytest.raises(BadFile, match="No space left"):
        does[name](out / name)
    assert [path for path in out.rglob("*") if path.is_file() and path.suffix != ".png"] == []


def test_a_full_disk_while_judging_keeps_pictures_and_judgements(
    done: Run, full: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Folder(done.folder.path).content
    other = Judge(name="other", detector=Redness(concept="r"), thresholds={"r": 0.5})
    with monkeypatch.context():
        full()
        with pytest.raises(RunFailed, match="No space left"):
            rejudge(done.folder.path, [other])
    monkeypatch.undo()
    assert Folder(done.folder.path).content == before  # run.json as it was, and whole
    assert len(Folder(done.folder.path).generations.rows()) == 6
    assert rejudge(done.folder.path, [other]).judges == ["red", "other"]
