"""``tadasu edit``: stored corrections, from target to file to model."""

from __future__ import annotations

from typing import Any

import typer

from tadasu.cli import edit_files, edit_make, edit_suggest

app = typer.Typer(
    name="edit",
    help="Erase, replace, moderate or debias concepts; check, show, export and apply edits.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: tuple[Any, ...] = (
    edit_make.erase,
    edit_make.replace,
    edit_make.moderate,
    edit_make.debias,
    edit_files.show,
    edit_files.check,
    edit_files.preview,
    edit_files.export,
    edit_files.apply,
    edit_files.prior,
    edit_suggest.suggest,
)
for _command in _COMMANDS:
    app.command(_command.__name__)(_command)
