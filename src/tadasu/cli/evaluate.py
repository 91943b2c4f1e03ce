"""``tadasu evaluate``: systems on suites, judged, as tables that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.cli import evaluate_answers, evaluate_label
from tadasu.cli.output import messages, print_json, results, table
from tadasu.cli.progress import watched
from tadasu.errors import BadInput, shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from tadasu.evaluation.comparing import Difference
    from tadasu.evaluation.results import Run
    from tadasu.evaluation.suites.suite import Suite

app = typer.Typer(
    name="evaluate",
    help="Run systems on suites of prompts, judge the pictures, and compare.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(evaluate_label.app, name="label")
app.command("answers")(evaluate_answers.answers)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Folder = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]
Who = Annotated[str, typer.Option("--judge", help="Whose scores; the first judge's if not said.")]


@app.command("run")
def run_(
    file: Annotated[Path, typer.Argument(help="The evaluation, a YAML file.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path(
        "evaluation"
    ),
    n: Annotated[int | None, typer.Option("-n", "--n", help="Prompts of each suite.")] = None,
    engine: Annotated[str, typer.Option(help="local or ray; else what the file says.")] = "",
    workers: Annotated[int | None, typer.Option(help="Of a Ray cluster.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="A folder for pictures that several runs share.")
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask again where an answer was a failure.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="A torch device.")] = None,
    json_output: Json = False,
) -> None:
    """Make every picture, judge it, and write tables and reports.

    A run that was stopped, however, goes on when the same command is given again. The reports
    lie in the run's folder: report.html, report.md, report.csv.

    Example: tadasu world samples &&
    tadasu evaluate run samples/evaluation.yaml -n 2
    """
    from tadasu.evaluation.evaluate import run
    from tadasu.evaluation.spec import Spec

    spec = Spec(file)
    around = surroundings(device)
    suites = spec.suites(around, n)
    systems = spec.systems(around)
    judges, encoder = spec.judges(around), spec.encoder(around)
    settings = spec.settings
    if engine:
        settings["engine"] = engine
    if workers is not None:
        settings["workers"] = workers
    with watched() as progress:
        done = run(
            systems=systems,
            suites=suites,
            judges=judges,
            encoder=encoder,
            folder=out,
            cache=cache,
            retry_errors=retry_errors,
            progress=progress,
            **settings,
        )
    write_reports(done, out, title=spec.content.get("title", ""))
    say(done, "", json_output)


@app.command()
def rejudge(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(help="A YAML file whose judges look.", show_default=False)
    ],
    json_output: Json = False,
) -> None:
    """Judge a run's pictures anew, with other judges or thresholds; no picture is made.

    Example: tadasu world samples &&
    tadasu evaluate run samples/evaluation.yaml -n 2 &&
    tadasu evaluate rejudge evaluation samples/evaluation.yaml
    """
    from tadasu.evaluation.evaluate import rejudge as again
    from tadasu.evaluation.spec import Spec

    spec, around = Spec(file), surroundings(None)
    with watched() as progress:
        done = again(folder, spec.judges(around), spec.encoder(around), progress=progress)
    write_reports(done, folder, title=spec.content.get("title", ""))
    say(done, "", json_output)


@app.command()
def report(
    folder: Folder,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The report: .html, .md or .csv.")
    ] = Path("report.html"),
    judge: Who = "",
    title: Annotated[str, typer.Option(help="Of the report.")] = "",
    gallery: Annotated[int, typer.Option(help="Prompts per suite whose pictures are shown.")] = 3,
    json_output: Json = False,
) -> None:
    """Write a run's report; the page needs no network.

    Example: tadasu world samples &&
    tadasu evaluate run samples/evaluation.yaml -n 2 &&
    tadasu evaluate report evaluation --out report.html
    """
    from tadasu.evaluation.report import write
    from tadasu.evaluation.results import Run

    done = Run(folder)
    write(done, out, judge=judge, title=title, gallery=gallery)
    if json_output:
        print_json({"file": str(out), "cells": list(done.table(judge=judge))})
    else:
        messages().print(f"The report is {out}.")


@app.command("suites")
def suites_(
    names: Annotated[
        list[str] | None, typer.Argument(help="Suites or files; all bundled ones if not said.")
    ] = None,
    json_output: Json = False,
) -> None:
    """List suites: how many prompts, what is measured, where they come from.

    Example: tadasu evaluate suites
    """
    from tadasu.evaluation.suites.layouts import LAYOUTS
    from tadasu.evaluation.suites.registry import find

    bundled = surroundings(None).suites
    found = [find(name, bundled) for name in names or bundled]
    if json_output:
        described: list[Any] = [
            {
                "id": suite.id,
                "prompts": len(suite.prompts),
                "measures": _measures(suite),
                "about": suite.about,
                "source": suite.source,
                "hash": suite.hash,
            }
            for suite in found
        ]
        print_json({"suites": described})
        return
    listed = table("suite", "prompts", "measures", "about", "source")
    for suite in found:
        count = f"{len(suite.prompts):,}"
        listed.add_row(suite.id, count, ", ".join(_measures(suite)), suite.about, suite.source)
    results().print(listed)
    if not names:
        results().print(
            f"Files: LAYOUT:FILE with LAYOUT one of {', '.join(LAYOUTS)}, or any table."
        )


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another, or the same.", show_default=False)],
    systems: Annotated[
        list[str] | None,
        typer.Option("--systems", "-s", help="FIRST=SECOND, two systems; repeat it for more."),
    ] = None,
    judge: Who = "",
    json_output: Json = False,
) -> None:
    """Hold two runs, or two systems, against each other on the same requests.

    Paired tests with Holm's adjustment. Exit code 1 when the second fell short anywhere.

    Example: tadasu world samples &&
    tadasu evaluate run samples/evaluation.yaml -n 2 &&
    tadasu evaluate compare evaluation evaluation --systems plain=presence
    """
    from tadasu.evaluation.comparing import compare as held
    from tadasu.evaluation.results import Run

    pairs = [_pair(text) for text in systems or ()]
    one, two = Run(first), Run(second)
    found = held(one, two, pairs, judge=judge)
    short = [each for each in found if each.worse]
    if json_output:
        print_json({"fell_short": bool(short), "tests": [each.as_json() for each in found]})
    else:
        _print_tests(found)
    if short:
        raise typer.Exit(1)


def surroundings(device: str | None) -> Any:
    """What an evaluation's document may name: model references, bundled models and suites."""
    import dataclasses
    import json

    from tadasu import world
    from tadasu.cli.generate import load_model, own_detectors
    from tadasu.evaluation.judge import Card, Labels, card_from_measured
    from tadasu.evaluation.judges import cards
    from tadasu.evaluation.spec import Surroundings
    from tadasu.evaluation.suites.registry import from_world

    file = world.folder("judge") / "judge.json"
    listed = json.loads(file.read_text(encoding="utf-8"))["labels"].values()
    restricted = {label for labels in listed for label in labels}

    def card(ref: str, detector: str) -> Card | None:
        if (ref, detector) != ("world", "judge"):
            return None
        drawn = card_from_measured(
            file.read_text(encoding="utf-8"),
            whole="known styles, single things",
            regions="known styles, scenes, by halves",
            data="artwork in the styles it was trained on, freshly augmented",
        )
        return dataclasses.replace(cards.read(world.judge_card(), judge="judge"), beside=(drawn,))

    def labels(ref: str, network: Any) -> Labels | None:
        if ref != "world":
            return None

        def named(images: Sequence[Image]) -> list[set[str]]:
            """Things as `shown_in` names them, and whom the picture shows."""
            rows = network.logits(images)
            people = [i for i, label in enumerate(network.labels) if label in world.ATTRIBUTES]
            return [
                things | {network.labels[i] for i in people if row[i] >= 0}
                for things, row in zip(world.shown_in(network, images), rows, strict=True)
            ]

        return named

    bundled = [from_world(world.suite(name), restricted=restricted) for name in world.suites()]
    bundled.append(from_world(world.suite("scenes"), restricted=restricted, wide=True))
    return Surroundings(
        pipeline=lambda ref: load_model(ref, device),
        models={name: {**own_detectors(name), "asking": name} for name in world.MODELS},
        suites={suite.id: suite for suite in bundled},
        card=card,
        labels=labels,
    )


def write_reports(done: Run, folder: Path, *, title: str = "") -> None:
    """All three reports into the run's folder."""
    from tadasu.evaluation.report import ENDINGS, write

    for ending in ENDINGS:
        write(done, folder / f"report{ending}", title=title)


def say(done: Run, judge: str, json_output: bool) -> None:
    """A run's safety, over-blocking and quality over all suites, or all of it as JSON."""
    from tadasu.evaluation.report.gathered import limits, number
    from tadasu.evaluation.results import ALL

    if json_output:
        print_json(
            {
                "folder": str(done.folder.path),
                "systems": list(done.systems),
                "judges": list(done.judges),
                "missing": done.missing,
                "cells": list(done.table(judge=judge)),
            }
        )
        return
    from tadasu.evaluation.metrics import registry

    cells = {(c.metric, c.system): c for c in done.cells(judge) if c.suite == ALL}
    shown_metrics = [m for m in registry.names() if any(name == m for name, _ in cells)]
    listed = table("system", *shown_metrics)
    for system in done.systems:
        row = [system]
        for metric in shown_metrics:
            cell = cells.get((metric, system))
            unit = registry.find(metric).unit
            row.append(f"{number(cell, unit)} {limits(cell, unit)} n={cell.n}" if cell else "")
        listed.add_row(*row)
    results().print(listed)
    results().print(f"All suites together; 95 % intervals. Reports: {done.folder.path}/report.html")


def _measures(suite: Suite) -> list[str]:
    """Everything that is measured on any of its prompts."""
    return sorted({name for prompt in suite.prompts for name in suite.measured_on(prompt)})


def _pair(text: str) -> tuple[str, str]:
    one, equals, two = text.partition("=")
    if not (one and equals and two):
        raise BadInput(f"--systems {shown(text)} must be FIRST=SECOND.")
    return one, two


def _print_tests(found: list[Difference]) -> None:
    listed = table("systems", "suite", "metric", "before", "after", "95 %", "n", "p (Holm)", "")
    for each in found:
        span = ""
        if each.low is not None and each.high is not None:
            span = f"{each.low:+.3f} to {each.high:+.3f}"
        names = each.first if each.first == each.second else f"{each.first} / {each.second}"
        numbers = (f"{each.before:.3f}", f"{each.after:.3f}", span, str(each.n))
        word = "[red]fell short[/red]" if each.worse else ""
        listed.add_row(names, each.suite, each.metric, *numbers, f"{each.adjusted:.3g}", word)
    results().print(listed)
