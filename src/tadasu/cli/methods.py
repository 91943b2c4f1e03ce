"""``tadasu methods``: which methods there are; the folders are the list."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from tadasu.cli.output import print_json, results, table

#: Rooms in which one file is one method; each lists its own files in ``registry.names``.
ROOMS = ("guidance", "editing", "auditing", "alignment", "detectors")


def methods(
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """List the methods of guidance, editing, auditing, alignment and detection.

    Example: tadasu methods --json
    """
    found = listed()
    if json_output:
        print_json({room: list(names) for room, names in found.items()})
        return
    shown = table("room", "method", "what it is")
    for room, names in found.items():
        for name in names:
            shown.add_row(room, name, first_line(room, name))
    results().print(shown)


def listed() -> dict[str, tuple[str, ...]]:
    """Method names per room, without importing a method."""
    return {room: _names(room) for room in ROOMS}


def first_line(room: str, name: str) -> str:
    """The first line of a method's docstring, read from its file without running it."""
    package = importlib.import_module(f"tadasu.{room}")
    file = Path(package.__path__[0]) / f"{name}.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _names(room: str) -> tuple[str, ...]:
    if importlib.util.find_spec(f"tadasu.{room}") is None:
        return ()
    registry = importlib.import_module(f"tadasu.{room}.registry")
    return tuple(registry.names())
