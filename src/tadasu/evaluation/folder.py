"""What lies in a run's folder: what was asked for, what was made, what judges said.

::

    run.json            systems, suites, judges, settings
    generations.jsonl   one checked line a batch: outcome and picture of each request
    judgements.jsonl    one checked line a batch: what a judge or an encoder says of a picture
    pictures/ab/….png   each picture once
    items.parquet, scores.parquet    the same as tables, written when a phase ends
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadasu import __version__
from tadasu.errors import BadFile, BadInput, RunFailed, shown
from tadasu.evaluation.journal import Journal
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.pictures import Pictures
from tadasu.evaluation.suites.document import from_json
from tadasu.evaluation.suites.suite import Suite
from tadasu.evaluation.target import Target

FORMAT = "tadasu-run/1"
#: In a shared folder of pictures: the runs that may use it, a path a line.
RUNS = "runs.txt"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A system of a run that is not loaded: enough to know its pictures.

    Attributes:
        name: as in tables.
        id: content address.
        batch_size: as it ran.
        about: what it is made of.
    """

    name: str
    id: str
    batch_size: int
    about: Mapping[str, Any]


class Folder:
    """A run's folder.

    Args:
        path: of the folder.
        cache: where pictures and records lie; None for the folder itself. Runs that share a cache
            make a picture once between them.
    """

    def __init__(self, path: str | Path, cache: str | Path | None = None) -> None:
        self.path = Path(path)
        self.document = self.path / "run.json"
        content = self._content() if self.document.exists() else {}
        kept = cache if cache is not None else content.get("cache")
        self.cache = Path(kept) if kept else self.path
        if kept and cache is None and not self._allowed():
            raise BadFile(
                f"{shown(self.document, 300)} says that its pictures lie in {shown(kept, 300)}, "
                f"but that folder does not list this run in {RUNS}. If the run is yours and was "
                "moved, run it again with --cache; nothing was read or written there."
            )
        self.generations = Journal(self.cache / "generations.jsonl")
        self.judgements = Journal(self.cache / "judgements.jsonl")
        self.pictures = Pictures(self.cache / "pictures")

    def _allowed(self) -> bool:
        """Whether the shared folder itself lists this run: a document alone opens no folder."""
        try:
            listed = (self.cache / RUNS).read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return str(self.path.resolve()) in listed

    def _share(self) -> None:
        """Lists this run in the folder that it shares."""
        if self.cache != self.path and not self._allowed():
            with (self.cache / RUNS).open("a", encoding="utf-8") as file:
                file.write(f"{self.path.resolve()}\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process works in a cache at a time; a killed one leaves no lock behind.

        Raises:
            BadInput: another run is at work here.
            BadFile: the folder cannot be written.
        """
        try:
            for folder in (self.path, self.cache):
                folder.mkdir(parents=True, exist_ok=True)
            self._share()
            file = os.open(self.cache / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BadFile(f"Cannot write {shown(self.cache, 300)}: {error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise BadInput(
                f"Another run is at work in {shown(self.cache, 300)}; wait for it, or choose "
                "another folder."
            ) from error
        finally:
            self.generations.close()
            self.judgements.close()
            os.close(file)

    def begin(self, systems: Sequence[Target], suites: Sequence[Suite], samples: int) -> None:
        """Writes what is asked for; a folder that holds something else is refused.

        Raises:
            BadInput: the folder holds another run.
            RunFailed: it cannot be written.
        """
        wanted: dict[str, Any] = {
            "format": FORMAT,
            "samples": samples,
            "systems": [
                {"name": s.name, "id": s.id, "batch_size": s.batch_size, "about": dict(s.about)}
                for s in systems
            ],
            "suites": [{**suite.as_json(), "hash": suite.hash} for suite in suites],
        }
        if self.document.exists():
            content = self._content()
            same = all(content.get(key) == value for key, value in _plain(wanted).items())
            if not same:
                raise BadInput(
                    f"{shown(self.path, 300)} holds a run of other systems, suites or settings; "
                    "choose another folder, or remove this one."
                )
            return
        cache = {} if self.cache == self.path else {"cache": str(self.cache)}
        self.write({**wanted, **cache, "version": __version__, "judges": [], "encoder": ""})

    def write(self, content: Mapping[str, Any]) -> None:
        """Writes ``run.json``, whole or not at all.

        Raises:
            RunFailed: it cannot be written.
        """
        partial = self.document.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
            partial.replace(self.document)
        except OSError as error:
            if partial.exists():
                partial.unlink()
            raise RunFailed(f"Cannot write {shown(self.document, 300)}: {error}.") from error

    def note_judges(self, judges: Sequence[Judge], encoder: str) -> None:
        """Writes who judged, with thresholds and cards; a judge of the same name is replaced."""
        content = self._content()
        listed = {judge["name"]: judge for judge in content["judges"]}
        listed |= {judge.name: _judge(judge) for judge in judges}
        kept = encoder or content["encoder"]
        self.write({**content, "judges": list(listed.values()), "encoder": kept})

    @property
    def content(self) -> dict[str, Any]:
        """``run.json`` as it stands.

        Raises:
            BadFile: there is no run here, or it is damaged.
        """
        return self._content()

    @property
    def systems(self) -> list[Known]:
        """The systems of the run, in their order."""
        return [Known(**system) for system in self._content()["systems"]]

    @property
    def suites(self) -> list[Suite]:
        """The suites of the run, in their order."""
        entries = self._content()["suites"]
        return [from_json({**entry, "suite": entry["id"]}, folder=self.path) for entry in entries]

    def _content(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.document.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise KeyError(f"format {content['format']}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFile(
                f"{shown(self.path, 300)} holds no run that can be read: {error}"
            ) from error
        return content


def _judge(judge: Judge) -> dict[str, Any]:
    return {
        "name": judge.name,
        "id": judge.id,
        "detector": judge.detector.name,
        "unit": judge.detector.unit,
        "thresholds": dict(judge.thresholds),
        "card": judge.card.as_json() if judge.card else None,
    }


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads after a trip through JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
