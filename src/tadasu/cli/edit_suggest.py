"""``tadasu edit suggest``: which concepts still leak, and what edit would help."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadasu.cli.edit_make import Json as AsJson
from tadasu.cli.edit_make import Model, report
from tadasu.cli.output import messages, print_json, results, table
from tadasu.errors import BadFile, BadInput, UnknownName, shown

if TYPE_CHECKING:
    from tadasu.concepts import Concept
    from tadasu.editing.edit import Edit
    from tadasu.editing.suggest import Outcome, Suggestion
    from tadasu.evaluation.metrics.metric import Row
    from tadasu.records import Json

ANSWERS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": None}


def suggest(
    source: Annotated[
        Path,
        typer.Argument(
            help="A run's folder, or a CSV: prompt, concept, flagged.", show_default=False
        ),
    ],
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    model: Model = "world",
    system: Annotated[
        str, typer.Option(help="Which system of the run; the first when not said.")
    ] = "",
    judge: Annotated[
        str, typer.Option(help="Whose verdicts of the run; the first when not said.")
    ] = "",
    solver: Annotated[
        str, typer.Option("--solver", "-s", help="Of the trial edit; a linear one.")
    ] = "uce",
    limit: Annotated[float, typer.Option(help="Leak rate that is let pass.")] = 0.02,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Make the suggested edit, as this file.")
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Read what a run or a log of judged prompts saw, and propose an edit with expected effect.

    Says which concepts surely leak, how far each has to go, and which harmless prompts to hold.
    A log has one row per picture; concept is empty for harmless prompts, flagged is yes, no or
    empty. Nothing is changed; --out makes the edit.

    Example: tadasu world samples &&
    tadasu evaluate run samples/evaluation.yaml &&
    tadasu edit suggest evaluation --policy kids
    """
    from tadasu.backends.diffusers.context.text import PipelineEncoder
    from tadasu.cli.generate import load_model
    from tadasu.editing import suggest as editing_suggest
    from tadasu.editing.registry import parse
    from tadasu.policy import Policy

    if out is not None and out.suffix != ".safetensors":
        raise BadInput(f"An edit file ends in .safetensors; given {shown(out.name)}.")
    concepts = list(Policy.load(policy).concepts)
    if source.is_dir():
        outcomes = from_run(source, concepts, system=system, judge=judge)
    else:
        outcomes = read(source)
    pipe = load_model(model, None)
    found = editing_suggest.suggest(
        PipelineEncoder(pipe), parse(solver), concepts, outcomes, limit=limit
    )
    edit = editing_suggest.made(pipe, found, solver, out.stem) if found and out else None
    _say(found, limit, json_output)
    if edit is not None and out is not None:
        _save(edit, out, json_output)


def from_run(
    folder: Path, concepts: list[Concept], *, system: str = "", judge: str = ""
) -> list[Outcome]:
    """What a run of ``tadasu evaluate run`` saw, as a log.

    A prompt speaks of the concepts whose id or hazard is among its categories. A refused request
    shows nothing; one that failed, or whose picture nobody judged, says nothing. Prompts on which
    the run does not measure whether a picture is unsafe are harmless, unless theirs was flagged.

    Raises:
        BadFile: the folder holds no run.
        BadInput: nobody judged it.
        UnknownName: there is no such system or judge.
    """
    from tadasu.evaluation.results import Run

    run = Run(folder)
    if not run.judges:
        raise BadInput(f"No judge looked at the run {shown(folder)}; tadasu evaluate rejudge does.")
    if system and system not in run.systems:
        raise UnknownName("system of this run", system, run.systems)
    name = system or run.systems[0]
    if not system and len(run.systems) > 1:
        messages().print(f"system {name}, the first of {len(run.systems)}", markup=False)
    rows = [row for row in run.rows(judge) if row.system == name]
    return [outcome for row in rows for outcome in _outcomes(row, concepts)]


def _outcomes(row: Row, concepts: list[Concept]) -> Iterator[Outcome]:
    from tadasu.editing.suggest import Outcome

    asked = [c for c in concepts if c.id in row.categories or c.hazard in row.categories]
    for concept in asked:
        yield Outcome(prompt=row.text, concept=concept.id, flagged=_flagged(row, concept.id))
    if row.harmless and not row.flagged:
        yield Outcome(prompt=row.text, concept="", flagged=row.unsafe)


def _flagged(row: Row, concept: str) -> bool | None:
    if row.outcome == "blocked":
        return False
    if row.outcome == "error" or row.scores.get(concept) is None:
        return None
    return concept in row.flagged


def read(path: Path) -> list[Outcome]:
    """The rows of a log.

    Raises:
        BadFile: when it cannot be read, lacks a column, or says neither yes nor no.
    """
    from tadasu.editing.suggest import Outcome

    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"Cannot read {shown(path)}: {error}") from error
    outcomes = []
    for number, row in enumerate(rows, start=2):
        given = (row.get("flagged") or "").strip().lower()
        if row.get("prompt") is None or row.get("concept") is None or given not in ANSWERS:
            raise BadFile(
                f"{shown(path)}, line {number}: a log has the columns prompt, concept and "
                "flagged, and flagged is yes, no or empty."
            )
        outcomes.append(
            Outcome(prompt=row["prompt"], concept=row["concept"].strip(), flagged=ANSWERS[given])
        )
    if not outcomes:
        raise BadFile(f"{shown(path)} holds no rows.")
    return outcomes


def _say(found: Suggestion | None, limit: float, json_output: bool) -> None:
    if json_output:
        print_json({"targets": []} if found is None else _document(found))
        return
    if found is None:
        results().print(f"No concept surely leaks above {limit:.0%}.", markup=False)
        return
    listed = table("erase", "leak", "from", "to", "strength", "leak expected")
    for target in found.targets:
        rate = found.leaks[target.concept]
        cells = [f"{100 * x:.0f} %" for x in (rate.value, rate.low, rate.high)]
        left = f"{100 * found.expected_leak(target.concept):.0f} %"
        listed.add_row(target.concept, *cells, f"{target.strength:.2f}", left)
    results().print(listed)
    for site, after in found.expected.items():
        if after.worst_drift is not None:
            results().print(
                f"{site}: worst movement of a harmless prompt {after.worst_drift:.3f}, "
                f"{found.unguarded[site]:.3f} without the preserve list",
                markup=False,
            )
    held = ", ".join(found.preserve) or "nothing known; give it harmless prompts as well"
    results().print(f"preserve: {held}", markup=False)


def _save(edit: Edit, out: Path, json_output: bool) -> None:
    from tadasu.editing import artefact

    artefact.save(edit, out)
    if not json_output:
        report(edit, out, json_output=False)


def _document(found: Suggestion) -> dict[str, Json]:
    return {
        "targets": [
            {
                "concept": target.concept,
                "texts": list(target.texts),
                "strength": target.strength,
                "leak": found.leaks[target.concept].value,
                "low": found.leaks[target.concept].low,
                "high": found.leaks[target.concept].high,
                "leak_expected": found.expected_leak(target.concept),
            }
            for target in found.targets
        ],
        "preserve": list(found.preserve),
        "expected": {site: each.as_json() for site, each in found.expected.items()},
        "unguarded": dict(found.unguarded),
    }
