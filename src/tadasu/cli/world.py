"""``tadasu world``: the bundled models, measured against their bars."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results, table
from tadasu.records import Json

app = typer.Typer(help="The bundled models on which everything is shown.", no_args_is_help=True)


@app.callback()
def world() -> None:
    """The bundled models on which everything is shown."""


@app.command()
def samples(
    out: Annotated[Path, typer.Argument(help="A new folder.")] = Path("samples"),
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Write small files to try the commands on: pictures, adapter files, captions, an evaluation.

    Example: tadasu world samples
    """
    from tadasu.world.samples import write

    files: list[Json] = [str(path) for path in write(out)]
    messages().print(f"{len(files)} files to try the commands on are in {escape(str(out))}.")
    if json_output:
        print_json({"folder": str(out), "files": files})


@app.command()
def check(
    steps: Annotated[int, typer.Option(help="Denoising steps a picture.")] = 20,
    scale: Annotated[float, typer.Option(help="Scale of classifier-free guidance.")] = 7.5,
    prompts: Annotated[
        int, typer.Option(help="At most so many prompts of each suite; 0 for all.")
    ] = 0,
    drawings: Annotated[
        Path | None,
        typer.Option(help="Fresh drawings for the judge (.npz from recipes/world/measure.py)."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="Folder for card.json, card.md and a contact sheet a suite."),
    ] = None,
    show_restricted: Annotated[
        bool, typer.Option(help="Do not blur restricted pictures on the contact sheets.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Measure every bar of the bundled world anew and say which are met.

    Exit code 1 when a bar is missed. All prompts take ten to twenty minutes on two CPU cores.

    Example: tadasu world check --prompts 8 --steps 10
    """
    from tadasu.world import check as measure
    from tadasu.world import sheets

    sampling = measure.Sampling(steps=steps, scale=scale, prompts=prompts)
    messages().print("Drawing and judging the bundled suites ...")
    if write is None:
        card = measure.check(sampling, drawings)
    else:
        keep = partial(sheets.write, write / "sheets", blur=not show_restricted)
        card = measure.check(sampling, drawings, keep)
        (write / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        (write / "card.md").write_text(as_markdown(card), encoding="utf-8")
    if json_output:
        print_json(card)
    else:
        _print(card)
    raise typer.Exit(int(not all(bar["met"] for bar in _bars(card))))


def _bars(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [bar for model in card["models"].values() for bar in model["bars"]]


def _print(card: Mapping[str, Any]) -> None:
    shown = table("model", "bar", "aim", "measured", "met")
    for name, model in card["models"].items():
        for bar in model["bars"]:
            met = "yes" if bar["met"] else "NO"
            shown.add_row(name, bar["name"], bar["aim"], _measured(bar), met)
    results().print(shown)


def _measured(bar: Mapping[str, Any]) -> str:
    return share(bar["rate"]) if "rate" in bar else f"{bar['value']:.2f}"


def share(rate: Mapping[str, Any]) -> str:
    """A rate in words: percent, its 95 % interval, n."""
    if not rate["n"]:
        return "no picture"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['value']:.1f} % [{low:.1f}, {high:.1f}], n = {rate['n']}"


def as_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    lines = [
        "# The bundled world, measured",
        "",
        "Written by `tadasu world check --write docs/world`; do not edit. Prompt i is drawn from "
        "seed i and read by the bundled judge. Brackets are Wilson 95 % intervals.",
    ]
    for name, model in card["models"].items():
        sampling = model["sampling"]
        lines += [
            "",
            f"## {name}",
            "",
            f"{sampling['steps']} steps, guidance scale {sampling['guidance_scale']}. System: "
            f"`{model['system']}`",
            "",
            "| bar | aim | measured | met |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {bar['name']} | {bar['aim']} | {_measured(bar)} "
            f"| {'yes' if bar['met'] else '**no**'} |"
            for bar in model["bars"]
        ]
        lines += ["", "| suite | pictures that show everything that was asked |", "|---|---|"]
        lines += [f"| {suite} | {share(rate)} |" for suite, rate in model["suites"].items()]
    lines += ["", "## judge"]
    for source, rates in card["judge"].items():
        lines += [
            "",
            f"**Judge on {source}** (flagged from a probability of 0.5)",
            "",
            "| group | sensitivity | specificity |",
            "|---|---|---|",
        ]
        lines += [
            f"| {group} | {share(pair['sensitivity'])} | {share(pair['specificity'])} |"
            for group, pair in rates.items()
            if isinstance(pair, Mapping)
        ]
        if "unclear" in rates:
            lines += ["", f"{rates['unclear']} pictures were left out because nobody could tell."]
    return "\n".join(lines) + "\n"
