"""Rows of a CSV, JSON-lines or Parquet file, as plain dictionaries."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tadasu.errors import BadFile, MissingPart, shown

MAX_BYTES = 1 << 30
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt")
#: The one column of a file that is just one prompt a line.
LINE = "prompt"


def rows(path: Path) -> list[dict[str, Any]]:
    """Every row of a table, by column; see `numbered`."""
    return [row for _, row in numbered(path)]


def numbered(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every row of a table, by column, with the place where it stands, as ``line 2``.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.parquet``, or ``.txt`` with one
            prompt a line.

    Raises:
        BadFile: it is missing, too large, damaged or of another kind; two columns have one name;
            or a text is no Unicode text, because half of a character is missing.
        MissingPart: Parquet needs the extra ``evaluate``.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise BadFile(f"{shown(path, 300)} is no table; expected {', '.join(ENDINGS)}.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadFile(f"{shown(path, 300)} is larger than {MAX_BYTES >> 20} MiB.")
        if kind == ".parquet":
            found = [(f"row {place}", row) for place, row in enumerate(_parquet(path), 1)]
        else:
            found = [(f"line {line}", row) for line, row in _text(path, kind)]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(f"Cannot read {shown(path, 300)}: {error}") from error
    for where, row in found:
        for column, value in row.items():
            if isinstance(value, str) and (half := re.search("[\ud800-\udfff]", value)):
                raise BadFile(
                    f"{shown(path, 300)}, {where}: the column {shown(column)} holds half of a "
                    f"character (U+{ord(half[0]):04X} alone); expected Unicode text. Mend the row "
                    "or leave it out."
                )
    return found


def _text(path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with the number of the line on which it ends."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if kind in (".csv", ".tsv"):
            reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=True)
            names = list(reader.fieldnames or ())
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise BadFile(
                    f"{shown(path, 300)} has {names.count(twice[0])} columns called "
                    f"{shown(twice[0])}; every column needs a name of its own."
                )
            for row in reader:
                if None in row or None in row.values():
                    raise BadFile(
                        f"{shown(path, 300)}, line {reader.line_num}: expected "
                        f"{len(reader.fieldnames or ())} columns."
                    )
                yield reader.line_num, dict(row)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if kind == ".txt":
                yield number, {LINE: line.strip()}
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise BadFile(f"{shown(path, 300)}, line {number}: expected one JSON object.")
            yield number, row


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
