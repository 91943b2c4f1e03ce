"""Append-only records that survive ``kill -9``: one line is all of a batch, or nothing.

A line holds its rows and their checksum. A line that was torn by a crash, or by a full disk, does
not match its checksum; readers pass over it, and the next writer begins on a new line. Nothing is
ever rewritten.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadasu.errors import BadFile, RunFailed, shown


class Journal:
    """A file of checked lines.

    Args:
        path: of the file; it is made when the first line is written.

    Attributes:
        torn: how many lines the latest reading passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self._file: int | None = None

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds all rows, or none of them.

        Raises:
            RunFailed: the line could not be written; everything before it is kept.
        """
        text = _plain(rows)
        line = f'{{"crc":{zlib.crc32(text.encode())},"rows":{text}}}\n'.encode()
        try:
            if self._file is None:
                self._file = self._open()
            written = os.write(self._file, line)
            while written < len(line):  # a disk that is nearly full takes a part
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            self.close()
            raise RunFailed(
                f"Cannot write {shown(self.path, 300)}: {error}. Everything recorded before is "
                "kept; make room and start the same run again to go on."
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """Every row of every whole line, in the order in which they were written.

        Raises:
            BadFile: the file cannot be read.
        """
        self.torn = 0
        found: list[dict[str, Any]] = []
        try:
            lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        except OSError as error:
            raise BadFile(f"Cannot read {shown(self.path, 300)}: {error}") from error
        for line in filter(None, lines):
            rows = _checked(line)
            if rows is None:
                self.torn += 1
            else:
                found.extend(rows)
        return found

    def close(self) -> None:
        """Gives the file back; the next append opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.write(file, b"\n")  # what was torn stays on a line of its own
        return file


def _checked(line: bytes) -> list[dict[str, Any]] | None:
    """The rows of a line; None where it is not what was written."""
    try:
        content = json.loads(line)
        rows: list[dict[str, Any]] = content["rows"]
        whole = zlib.crc32(_plain(rows).encode()) == content["crc"]
    except (ValueError, KeyError, TypeError):
        return None
    return rows if whole else None


def _plain(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
