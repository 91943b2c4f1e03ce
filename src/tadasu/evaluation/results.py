"""What a run found: rows, tables, Parquet files, and questions in SQL."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadInput, MissingPart, RunFailed, UnknownName, shown
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.judge import held
from tadasu.evaluation.judges import cards
from tadasu.evaluation.metrics import registry
from tadasu.evaluation.metrics.metric import Cell, Context, Row
from tadasu.evaluation.plan import items
from tadasu.evaluation.runner import judged_key, recorded, unpacked, vector_key
from tadasu.evaluation.suites.suite import Suite
from tadasu.evaluation.target import Outcome
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

#: The suite of cells that take all suites together.
ALL = "all suites"
#: Metrics that mean something over all suites together.
_POOLED = ("served_unsafe", "over_blocking", "shows", "seconds", "memory")

_ITEMS = {
    "system": "VARCHAR",
    "system_id": "VARCHAR",
    "suite": "VARCHAR",
    "prompt": "VARCHAR",
    "sample": "INTEGER",
    "text": "VARCHAR",
    "language": "VARCHAR",
    "categories": "VARCHAR[]",
    "measures": "VARCHAR[]",
    "shows": "VARCHAR[]",
    "seed": "BIGINT",
    "outcome": "VARCHAR",
    "decision": "VARCHAR",
    "reason": "VARCHAR",
    "stage": "VARCHAR",
    "seconds": "DOUBLE",
    "memory": "BIGINT",
    "picture": "VARCHAR",
    "key": "VARCHAR",
}
_SCORES = {
    "judge": "VARCHAR",
    "judge_id": "VARCHAR",
    "system": "VARCHAR",
    "suite": "VARCHAR",
    "prompt": "VARCHAR",
    "sample": "INTEGER",
    "picture": "VARCHAR",
    "unsafe": "BOOLEAN",
    "flagged": "VARCHAR[]",
    "labels": "VARCHAR[]",
    "scores": "MAP(VARCHAR, DOUBLE)",
}


class Run:
    """A run that was made, from its folder.

    Args:
        folder: of the run.

    Raises:
        BadFile: there is no run that can be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Folder(folder)
        self.content: dict[str, Any] = self.folder.content
        self.suites: list[Suite] = self.folder.suites
        self.systems: list[str] = [system["name"] for system in self.content["systems"]]
        self._cells: dict[str, list[Cell]] = {}

    @property
    def judges(self) -> list[str]:
        """Names of the judges that looked, in the order in which they did."""
        return [judge["name"] for judge in self.content["judges"]]

    @cached_property
    def _items(self) -> list[Any]:
        return items(self.folder.systems, self.suites, int(self.content["samples"]))

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        return recorded(self.folder, self._items)

    @cached_property
    def _judgements(self) -> dict[str, dict[str, Any]]:
        return {row["key"]: row for row in self.folder.judgements.rows()}

    @property
    def missing(self) -> int:
        """How many requests of the plan have no answer yet."""
        return len({item.key for item in self._items} - self._records.keys())

    def rows(self, judge: str = "") -> list[Row]:
        """One row for each request that was answered, in the order of the plan.

        Args:
            judge: whose scores are filled in; empty takes the first judge, if there is one.

        Raises:
            UnknownName: no such judge looked.
        """
        about = self._judge(judge)
        suites = {suite.id: suite for suite in self.suites}
        prompts = {suite.id: {p.id: p for p in suite.prompts} for suite in self.suites}
        made = []
        for item in self._items:
            record = self._records.get(item.key)
            if record is None:
                continue
            suite = suites[item.suite]
            prompt = prompts[item.suite][item.prompt]
            row = Row(
                system=self.systems[item.target],
                suite=suite.id,
                prompt=prompt.id,
                sample=item.sample,
                text=prompt.text,
                seed=item.request.seed,
                measures=suite.measured_on(prompt),
                categories=prompt.categories,
                shows=prompt.shows,
                outcome=Outcome(record["outcome"]),
                reason=record["reason"],
                decision=str(record["details"].get("decision", "")),
                seconds=record["seconds"],
                memory=record["memory"],
                picture=record["picture"],
                **self._said(about, record["picture"], suite, prompt.text),
            )
            made.append(row)
        return made

    def cells(self, judge: str = "") -> list[Cell]:
        """Every number of the run.

        Args:
            judge: as in `rows`.
        """
        about = self._judge(judge)
        name = about["name"] if about else ""
        if name not in self._cells:
            self._cells[name] = list(self._measured(self.rows(judge), about))
        return self._cells[name]

    def table(self, metric: str = "", judge: str = "") -> list[dict[str, Json]]:
        """Every number of the run as dictionaries, ready for a data frame.

        Args:
            metric: only this one; empty for all.
            judge: as in `rows`.

        Raises:
            UnknownName: there is no such metric or judge.
        """
        if metric:
            registry.find(metric)
        cells = self.cells(judge)
        return [cell.as_json() for cell in cells if metric in ("", cell.metric)]

    def report(self, path: str | Path, *, judge: str = "") -> None:
        """Writes the report; the ending says what: ``.html``, ``.md`` or ``.csv``.

        Raises:
            BadInput: another ending.
            MissingPart: HTML needs the extra ``evaluate``.
        """
        from tadasu.evaluation.report import write

        write(self, Path(path), judge=judge)

    def picture(self, row: Row) -> Image:
        """The picture of a row.

        Raises:
            BadFile: there is none, or it is not what was stored.
        """
        return self.folder.pictures.read(row.picture)

    def write_parquet(self) -> tuple[Path, Path]:
        """Writes ``items.parquet`` and ``scores.parquet`` into the run's folder.

        Raises:
            MissingPart: the extra ``evaluate`` is not installed.
            RunFailed: they cannot be written.
        """
        paths = self.folder.path / "items.parquet", self.folder.path / "scores.parquet"
        _parquet(paths[0], _ITEMS, self._item_rows())
        _parquet(paths[1], _SCORES, self._score_rows())
        return paths

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Asks DuckDB; the tables ``items`` and ``scores`` are the run's Parquet files.

        Raises:
            MissingPart: the extra ``evaluate`` is not installed.
            BadInput: DuckDB does not understand the question.
        """
        duckdb = duckdb_or_say()
        paths = self.folder.path / "items.parquet", self.folder.path / "scores.parquet"
        if not all(path.exists() for path in paths):
            self.write_parquet()
        connection = duckdb.connect()
        for name, path in zip(("items", "scores"), paths, strict=True):
            quoted = str(path).replace("'", "''")
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{quoted}')")
        try:
            found = connection.execute(sql)
            columns = [column[0] for column in found.description or ()]
            return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            raise BadInput(f"DuckDB does not understand this: {error}") from error

    def _judge(self, name: str) -> dict[str, Any] | None:
        listed: list[dict[str, Any]] = self.content["judges"]
        if not name:
            return listed[0] if listed else None
        for judge in listed:
            if judge["name"] == name:
                return judge
        raise UnknownName("judge of this run", name, self.judges)

    def _said(
        self, judge: Mapping[str, Any] | None, picture: str, suite: Suite, text: str
    ) -> dict[str, Any]:
        """What judge and encoder say of one picture."""
        if not picture:
            return {}
        said: dict[str, Any] = {}
        if judge is not None:
            found = self._judgements.get(judged_key(judge["id"], picture, suite.regions))
            if found is not None:
                scores = found["scores"]
                flagged, unsafe = held(scores, judge["thresholds"], found.get("notes", ()))
                said = {"scores": scores, "flagged": flagged, "unsafe": unsafe}
                labels = found["labels"]
                said["labels"] = None if labels is None else frozenset(labels)
        encoder = self.content["encoder"]
        for name, kind, what in (("vector", "picture", picture), ("wanted", "text", text)):
            stored = self._judgements.get(vector_key(encoder, kind, what)) if encoder else None
            said[name] = unpacked(stored["vector"]) if stored else None
        return said

    def _measured(self, rows: Sequence[Row], judge: Mapping[str, Any] | None) -> Iterator[Cell]:
        """Every metric of every system on every suite, and on all suites together."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((row.system, row.suite), []).append(row)
            groups.setdefault((row.system, ALL), []).append(
                dataclasses.replace(row, prompt=f"{row.suite}/{row.prompt}")
            )
        suites = {suite.id: suite for suite in self.suites}
        card = cards.from_json(judge["card"]) if judge and judge["card"] else None
        for system in self.systems:
            for suite in (*suites, ALL):
                own = groups.get((system, suite), [])
                if not own:
                    continue
                context = Context(
                    judge=judge["name"] if judge else "",
                    card=card,
                    by_regions=suite != ALL and bool(suites[suite].regions),
                    attributes=dict(suites[suite].attributes) if suite != ALL else {},
                    reference=groups.get((self.systems[0], suite), ()),
                    encoder="the encoder" if self.content["encoder"] else "",
                )
                for name in registry.names() if suite != ALL else _POOLED:
                    cell = registry.find(name).measure(own, context)
                    if cell is not None:
                        yield dataclasses.replace(cell, system=system, suite=suite)

    def _item_rows(self) -> Iterator[dict[str, Any]]:
        ids = {system["name"]: system["id"] for system in self.content["systems"]}
        languages = {(s.id, p.id): p.language for s in self.suites for p in s.prompts}
        keys = {(i.target, i.suite, i.prompt, i.sample): i.key for i in self._items}
        places = {name: place for place, name in enumerate(self.systems)}
        for row in self.rows():
            key = keys[places[row.system], row.suite, row.prompt, row.sample]
            known = {**vars(row), "outcome": str(row.outcome), "key": key}
            known |= {
                "system_id": ids[row.system],
                "language": languages[row.suite, row.prompt],
                "stage": self._records[key]["stage"],
            }
            yield {name: known[name] for name in _ITEMS}

    def _score_rows(self) -> Iterator[dict[str, Any]]:
        for judge in self.content["judges"]:
            for row in self.rows(judge["name"]):
                if row.scores:
                    known = {**vars(row), "judge": judge["name"], "judge_id": judge["id"]}
                    known["labels"] = sorted(row.labels) if row.labels is not None else None
                    yield {name: known[name] for name in _SCORES}


def duckdb_or_say() -> Any:
    """The library that reads and writes Parquet.

    Raises:
        MissingPart: the extra ``evaluate`` is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingPart.extra("tables in Parquet", "evaluate") from error
    return duckdb


def _parquet(path: Path, columns: Mapping[str, str], rows: Iterator[dict[str, Any]]) -> None:
    """Rows as Parquet, whole or not at all."""
    duckdb = duckdb_or_say()
    lines = path.with_suffix(".rows.jsonl")
    partial = path.with_suffix(".partial")
    shape = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    try:
        with lines.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=list) + "\n")
        source, target = (str(each).replace("'", "''") for each in (lines, partial))
        duckdb.connect().execute(
            f"COPY (SELECT * FROM read_json('{source}', format='newline_delimited', "
            f"columns={{{shape}}})) TO '{target}' (FORMAT PARQUET, COMPRESSION ZSTD)"
        )
        partial.replace(path)
    except (OSError, duckdb.Error) as error:
        raise RunFailed(
            f"Cannot write {shown(path, 300)}: {error}. What was made and judged is kept."
        ) from error
    finally:
        for each in (lines, partial):
            each.unlink(missing_ok=True)
