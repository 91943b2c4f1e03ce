"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tadasu.errors import BadFile, shown
from tadasu.records import Json


def messages() -> Console:
    """Where progress and remarks go: standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def results() -> Console:
    """Where results for people go: standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def print_json(document: Mapping[str, Json]) -> None:
    """One JSON document on standard output, and nothing else there."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def table(*columns: str) -> Table:
    """A plain table with these columns."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """An output folder that can be written, made before the long work starts.

    A folder that did not exist before, and is still empty when the work fails, is removed.

    Raises:
        BadFile: it cannot be made or written.
    """
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".tadasu"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadFile(f"The output folder {shown(path, 300)} cannot be written: {error}") from error
    try:
        yield path
    except BaseException:
        for each in made:
            with suppress(OSError):  # it holds something, which stays
                each.rmdir()
        raise
