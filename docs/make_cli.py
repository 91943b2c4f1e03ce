"""Writes docs/cli.md from what ``--help`` prints: ``python docs/make_cli.py``."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

import typer.main

PAGE = Path(__file__).parent / "cli.md"
INTRODUCTION = """# The command line

<!-- Written by docs/make_cli.py from the output of --help; a test compares them. -->

Every command takes `--json` where it has a result: one JSON document on standard output and nothing
else there. Messages and progress go to standard error. Exit codes: 0 done, 1 done and something was
found where the command's purpose is to find, 2 bad input, 3 a part is missing.
"""
#: Terminals differ; the page is what one of 100 columns without colours shows.
TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def commands() -> list[tuple[str, ...]]:
    """Every command line that has a help page: the program, its commands, their sub-commands."""
    from tadasu.cli.app import build

    def below(words: tuple[str, ...], command: object) -> list[tuple[str, ...]]:
        nested = getattr(command, "commands", {})
        return [words, *(line for n, c in nested.items() for line in below((*words, n), c))]

    return below((), typer.main.get_command(build()))


def help_of(words: tuple[str, ...]) -> str:
    """What ``tadasu WORDS --help`` prints."""
    from tadasu.cli.app import run

    printed = io.StringIO()
    with mock.patch.dict(os.environ, TERMINAL), contextlib.redirect_stdout(printed):
        run([*words, "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for words in commands():
        title = " ".join(("tadasu", *words))
        parts.append(f"## {title}\n\n```text\n{help_of(words)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
