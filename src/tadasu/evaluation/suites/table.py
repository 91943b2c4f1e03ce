"""Rows of a CSV, JSON-lines or Parquet file, as plain dictionaries."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tadasu.errors import BadFile, MissingPart, shown

MAX_BYTES = 1 << 30
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt")
#: The one column of a file that is just one prompt a line.
LINE = "prompt"


def rows(path: Path) -> list[dict[str, Any]]:
    """Every row of a table, by column.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.parquet``, or ``.txt`` with one
            prompt a line.

    Raises:
        BadFile: it is missing, too large, damaged or of another kind.
        MissingPart: Parquet needs the extra ``evaluate``.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise BadFile(f"{shown(path, 300)} is no table; expected {', '.join(ENDINGS)}.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadFile(f"{shown(path, 300)} is larger than {MAX_BYTES >> 20} MiB.")
        if kind == ".parquet":
            return _parquet(path)
        return list(_text(path, kind))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"Cannot read {shown(path, 300)}: {error}") from error


def _text(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if kind in (".csv", ".tsv"):
            reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise BadFile(
                        f"{shown(path, 300)}, line {reader.line_num}: expected "
                        f"{len(reader.fieldnames or ())} columns."
                    )
                yield dict(row)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if kind == ".txt":
                yield {LINE: line.strip()}
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise BadFile(f"{shown(path, 300)}, line {number}: expected one JSON object.")
            yield row


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import duckdb
    except ImportError as error:
        raise MissingPart.extra("reading Parquet", "evaluate") from error
    try:
        found = duckdb.connect().execute("SELECT * FROM read_parquet($1)", [str(path)])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as error:
        raise BadFile(f"Cannot read {shown(path, 300)}: {error}") from error
