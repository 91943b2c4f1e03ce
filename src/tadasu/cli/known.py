"""``tadasu known``: files that later audits recognise, however they are saved again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results, table
from tadasu.records import Json

app = typer.Typer(
    help="Known files: what audits recognise when it comes back in another coat.",
    no_args_is_help=True,
)
Where = Annotated[Path, typer.Argument(help="The index file.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("add")
def add(
    index: Where,
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders that are searched.", show_default=False)
    ],
    base: Annotated[
        str, typer.Option("--base", "-b", help="The files' model: world, a folder or a hub id.")
    ] = "world",
    note: Annotated[str, typer.Option("--note", help="Why they are known.")] = "",
    json_output: AsJson = False,
) -> None:
    """Remember files, so that audits with --known recognise copies and merges of them.

    Only sketches of what a file changes are kept, never the file. Exit code 1 when a file could
    not be read.

    Example: tadasu world samples &&
    tadasu known add banned.safetensors samples/downloads --note "case 7"
    """
    from tadasu.examination.known import base_of, remember
    from tadasu.examination.walk import files

    done = list(remember(index, files(paths), base_of(base), note))
    for each in done:
        if each.problem:
            messages().print(escape(f"{each.path.name}: {each.problem}"), style="yellow")
    added = [each for each in done if not each.problem]
    messages().print(f"{len(added)} of {len(done)} files are now in {escape(str(index))}.")
    if json_output:
        listed: list[Json] = [{"file": str(e.path), "problem": e.problem or None} for e in done]
        print_json({"index": str(index), "files": listed})
    raise typer.Exit(int(len(added) < len(done)))


@app.command("list")
def list_(index: Where, json_output: AsJson = False) -> None:
    """Show which files an index knows.

    Example: tadasu world samples &&
    tadasu known add banned.safetensors samples/downloads &&
    tadasu known list banned.safetensors
    """
    from tadasu.auditing.lineage_index import Index

    found = Index.load(index)
    if json_output:
        listed: list[Json] = [
            {"name": each.name, "sha256": each.digest, "note": each.note} for each in found.entries
        ]
        print_json({"index": str(index), "files": listed})
        return
    rows = table("name", "SHA-256", "note")
    for each in found.entries:
        rows.add_row(escape(each.name), each.digest[:16], escape(each.note))
    results().print(rows)
