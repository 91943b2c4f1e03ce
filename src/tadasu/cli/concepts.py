"""``tadasu concepts``: the bank of reference pictures that audits need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results, table
from tadasu.records import Json

app = typer.Typer(
    help="The concept bank: reference pictures that audits need.", no_args_is_help=True
)
Folder = Annotated[Path | None, typer.Option("--bank", help="The bank; yours when left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Of the concept.", show_default=False)],
    images: Annotated[Path, typer.Option("--images", help="A folder of pictures of it.")],
    part_of: Annotated[
        str, typer.Option("--part-of", help="Its policy concept, as weapons; empty for harmless.")
    ] = "",
    text: Annotated[str, typer.Option("--text", help="What a prompt would call it.")] = "",
    near: Annotated[
        list[str] | None,
        typer.Option("--near", help="A concept that looks like it without being it; repeat it."),
    ] = None,
    source: Annotated[
        str, typer.Option("--source", help="Where the pictures come from, and their licence.")
    ] = "",
    bank: Folder = None,
    json_output: AsJson = False,
) -> None:
    """Add a concept with its pictures to a bank, or more pictures to a concept.

    Audits hold a file against harmless concepts of the bank, so add at least eleven of those too.
    Pictures are copied. Never collect pictures of child abuse: possessing them is a crime.

    Example: tadasu world samples &&
    tadasu concepts add dagger --images samples/daggers --part-of weapons --bank bank
    """
    from tadasu.auditing import bank as banks

    where = bank or banks.default_folder()
    made = banks.add(
        where,
        name,
        banks.pictures_in(images),
        part_of=part_of,
        text=text,
        near=near or (),
        source=source,
    )
    messages().print(f"{len(made.files)} pictures of {made.name} are in {escape(str(where))}.")
    if json_output:
        print_json({"bank": str(where), "name": made.name, **made.as_json()})


@app.command("list")
def list_(bank: Folder = None, json_output: AsJson = False) -> None:
    """Show what a bank holds.

    Example: tadasu world samples &&
    tadasu concepts add dagger --images samples/daggers --bank bank &&
    tadasu concepts list --bank bank
    """
    from tadasu.auditing import bank as banks

    found = banks.Bank.load(bank or banks.default_folder())
    if json_output:
        listed: dict[str, Json] = {name: each.as_json() for name, each in found.concepts.items()}
        print_json({"bank": str(found.folder), "hash": found.hash, "concepts": listed})
        return
    rows = table("concept", "part of", "pictures", "text", "near")
    for name, each in found.concepts.items():
        count = str(len(each.files))
        rows.add_row(
            name, each.part_of or "harmless", count, escape(each.text), ", ".join(each.near)
        )
    results().print(rows)
