"""``tadasu edit suggest``: which concepts still leak, and what edit would help."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadasu.cli.edit_make import Json as AsJson
from tadasu.cli.edit_make import Method, Model
from tadasu.cli.output import print_json, results, table
from tadasu.errors import BadFile, shown

if TYPE_CHECKING:
    from tadasu.editing.suggest import Outcome, Suggestion
    from tadasu.records import Json

ANSWERS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": None}


def suggest(
    log: Annotated[Path, typer.Argument(help="CSV: prompt, concept, flagged.", show_default=False)],
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    model: Model = "world",
    solver: Method = "uce",
    limit: Annotated[float, typer.Option(help="Leak rate that is let pass.")] = 0.02,
    json_output: AsJson = False,
) -> None:
    """Read a log of judged prompts and propose targets and a preserve list, with expected effect.

    The log has one row per picture; concept is empty for harmless prompts, flagged is yes, no or
    empty. Nothing is changed.

    Example: tadasu edit suggest log.csv --policy kids
    """
    from tadasu.backends.diffusers.context.text import PipelineEncoder
    from tadasu.cli.generate import load_model
    from tadasu.editing import suggest as editing_suggest
    from tadasu.editing.registry import parse
    from tadasu.policy import Policy

    outcomes = read(log)
    concepts = list(Policy.load(policy).concepts)
    encoder = PipelineEncoder(load_model(model, None))
    found = editing_suggest.suggest(encoder, parse(solver), concepts, outcomes, limit=limit)
    if json_output:
        print_json({"targets": []} if found is None else _document(found))
        return
    if found is None:
        results().print(f"No concept surely leaks above {limit:.0%}.", markup=False)
        return
    listed = table("erase", "leak", "from", "to", "residual expected")
    for target in found.targets:
        rate = found.leaks[target.concept]
        left = max(each.residual[target.concept] for each in found.expected.values())
        cells = [f"{100 * x:.0f} %" for x in (rate.value, rate.low, rate.high)]
        listed.add_row(target.concept, *cells, f"{left:.2f}")
    results().print(listed)
    results().print(f"preserve: {', '.join(found.preserve)}", markup=False)


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


def _document(found: Suggestion) -> dict[str, Json]:
    return {
        "targets": [
            {
                "concept": target.concept,
                "texts": list(target.texts),
                "leak": found.leaks[target.concept].value,
                "low": found.leaks[target.concept].low,
                "high": found.leaks[target.concept].high,
            }
            for target in found.targets
        ],
        "preserve": list(found.preserve),
        "expected": {site: each.as_json() for site, each in found.expected.items()},
        "unguarded": dict(found.unguarded),
    }
