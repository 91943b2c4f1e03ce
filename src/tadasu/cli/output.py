"""How commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tadasu.records import Json


def messages() -> Console:
    """Where progress and remarks go: standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def results() -> Console:
    """Where results for people go: standard output."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def print_json(document: Mapping[str, Json] | Sequence[Json]) -> None:
    """One JSON document on standard output, and nothing else there."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def table(*columns: str) -> Table:
    """A plain table with these columns."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made
