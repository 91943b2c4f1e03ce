"""The commands of ``tadasu edit`` that make an edit file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.cli.output import messages, print_json, results, table
from tadasu.editing.limits import RESIDUAL
from tadasu.errors import BadFile, BadInput, shown

if TYPE_CHECKING:
    from tadasu.editing import Options
    from tadasu.editing.edit import Edit
    from tadasu.editing.targets import Target

Model = Annotated[
    str, typer.Option("--model", "-m", help="world, world-scenes, a folder or a hub id.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The edit file, ….safetensors.")]
Method = Annotated[
    str,
    typer.Option(
        "--solver",
        "-s",
        help="auto, uce, uce:v1, uce:v2, rece, speed, cure, layer, conditional.",
    ),
]
Kind = Annotated[
    str, typer.Option(help="object, person, style or idea: decides which rows are edited.")
]
RunTime = Annotated[
    bool, typer.Option("--run-time", help="To be attached to pipelines, not written into a model.")
]
Preserve = Annotated[
    list[str] | None,
    typer.Option("--preserve", "-k", help="A text that must stay, or a file with one a line."),
]
Captions = Annotated[
    Path | None, typer.Option(help="Ordinary prompts: one a line, or a CSV with a prompt column.")
]
PriorFile = Annotated[Path | None, typer.Option("--prior", help="From tadasu edit prior.")]
Templates = Annotated[
    list[str] | None, typer.Option("--template", "-t", help="Sentence with {} for the name.")
]
Tokens = Annotated[str | None, typer.Option(help="last, last+tail, all or eot.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def erase(
    concepts: Annotated[list[str], typer.Argument(help="Names to erase.", show_default=False)],
    anchor: Annotated[
        str, typer.Option(help="What they shall mean; 'mean' is the mean of the preserve list.")
    ] = "",
    model: Model = "world",
    out: Out = Path("edit.safetensors"),
    solver: Method = "auto",
    preserve: Preserve = None,
    captions: Captions = None,
    prior: PriorFile = None,
    template: Templates = None,
    tokens: Tokens = None,
    kind: Kind = "object",
    run_time: RunTime = False,
    json_output: Json = False,
) -> None:
    """Make names mean nothing, or what --anchor says.

    Example: tadasu edit erase pistol bomb --preserve "water pistol" --out no-weapons.safetensors
    """
    from tadasu.editing import Options, targets

    wanted = targets.erase(concepts, None if anchor == "mean" else anchor)
    asked = Options(
        name=out.stem, solver=solver, kind=kind, run_time=run_time, tokens=_mode(tokens)
    )
    _make(wanted, model, out, asked, _kept(preserve, captions, prior), template, json_output)


def replace(
    pairs: Annotated[list[str], typer.Argument(help="NAME=OTHER", show_default=False)],
    model: Model = "world",
    out: Out = Path("edit.safetensors"),
    solver: Method = "auto",
    preserve: Preserve = None,
    captions: Captions = None,
    prior: PriorFile = None,
    template: Templates = None,
    tokens: Tokens = None,
    kind: Kind = "object",
    run_time: RunTime = False,
    json_output: Json = False,
) -> None:
    """Make names mean something else.

    Example: tadasu edit replace pistol=banana --out banana.safetensors
    """
    from tadasu.editing import Options, targets

    wanted = targets.replace(dict(_pair(pair) for pair in pairs))
    asked = Options(
        name=out.stem, solver=solver, kind=kind, run_time=run_time, tokens=_mode(tokens)
    )
    _make(wanted, model, out, asked, _kept(preserve, captions, prior), template, json_output)


def moderate(
    hazard: Annotated[str, typer.Argument(help="A hazard of the policy.", show_default=False)],
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    model: Model = "world",
    out: Out = Path("edit.safetensors"),
    solver: Method = "auto",
    preserve: Preserve = None,
    captions: Captions = None,
    prior: PriorFile = None,
    template: Templates = None,
    tokens: Tokens = None,
    kind: Kind = "object",
    run_time: RunTime = False,
    json_output: Json = False,
) -> None:
    """Make every concept of one hazard mean nothing, in all its languages.

    Example: tadasu edit moderate weapons --policy kids --out no-weapons.safetensors
    """
    from tadasu.editing import Options, targets
    from tadasu.policy import Policy

    wanted = targets.moderate(list(Policy.load(policy).concepts), hazard)
    asked = Options(
        name=out.stem, solver=solver, kind=kind, run_time=run_time, tokens=_mode(tokens)
    )
    _make(wanted, model, out, asked, _kept(preserve, captions, prior), template, json_output)


def debias(
    concept: Annotated[str, typer.Argument(help="For example a profession.", show_default=False)],
    amounts: Annotated[list[str], typer.Argument(help="ATTRIBUTE=AMOUNT", show_default=False)],
    model: Model = "world",
    out: Out = Path("edit.safetensors"),
    solver: Method = "auto",
    preserve: Preserve = None,
    captions: Captions = None,
    prior: PriorFile = None,
    template: Templates = None,
    tokens: Tokens = None,
    json_output: Json = False,
) -> None:
    """Give a concept some of an attribute; amounts are fractions of the concept's own strength.

    Example: tadasu edit debias firefighter woman=0.2 man=-0.1 --out fair.safetensors
    """
    from tadasu.editing import Options, targets

    given = {name: _amount(value) for name, value in map(_pair, amounts)}
    wanted = targets.debias({concept: given})
    asked = Options(name=out.stem, solver=solver, tokens=_mode(tokens))
    _make(wanted, model, out, asked, _kept(preserve, captions, prior), template, json_output)


def lines(path: Path) -> list[str]:
    """Texts of a file: the ``prompt`` or ``caption`` column of a CSV, else one a line.

    Raises:
        BadFile: when it cannot be read or holds no text.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"Cannot read {shown(path)}: {error}") from error
    found = [line.strip() for line in content.splitlines()]
    if path.suffix == ".csv":
        rows = list(csv.DictReader(content.splitlines()))
        column = next((c for c in ("prompt", "caption", "text") if rows and c in rows[0]), None)
        if column is None:
            raise BadFile(f"{shown(path)} has no column prompt, caption or text.")
        found = [(row[column] or "").strip() for row in rows]
    texts = [text for text in found if text]
    if not texts:
        raise BadFile(f"{shown(path)} holds no text.")
    return texts


def _kept(
    preserve: Sequence[str] | None, captions: Path | None, prior: Path | None
) -> tuple[tuple[str, ...], tuple[str, ...], Path | None]:
    texts: list[str] = []
    for given in preserve or ():
        texts += lines(Path(given)) if Path(given).is_file() else [given]
    return tuple(texts), tuple(lines(captions)) if captions else (), prior


def _mode(tokens: str | None) -> Any:
    """A token mode.

    Raises:
        BadInput: when it is none.
    """
    from tadasu.editing.tokens import MODES

    if tokens is not None and tokens not in MODES:
        raise BadInput(f"--tokens is one of {', '.join(MODES)}; given {shown(tokens)}.")
    return tokens


def _make(
    targets: Sequence[Target],
    model: str,
    out: Path,
    asked: Options,
    kept: tuple[tuple[str, ...], tuple[str, ...], Path | None],
    templates: Sequence[str] | None,
    json_output: bool,
) -> None:
    """Solve, save, and say what the self-check found; nothing is written before all of it is."""
    import dataclasses

    from tadasu.cli.generate import load_model
    from tadasu.editing import artefact
    from tadasu.editing.make import solve
    from tadasu.editing.prior import Prior

    if out.suffix != ".safetensors":
        raise BadInput(f"An edit file ends in .safetensors; given {shown(out.name)}.")
    options = dataclasses.replace(
        asked,
        templates=tuple(templates or ()),
        preserve=kept[0],
        captions=kept[1],
        prior=Prior.load(kept[2]) if kept[2] else None,
    )
    options.check()  # refused before the model is loaded
    edit = solve(load_model(model, None), targets, options)
    artefact.save(edit, out)
    report(edit, out, json_output)


def report(edit: Edit, path: Path, json_output: bool) -> None:
    """Print what an edit is and what its self-check measured."""
    if json_output:
        print_json(
            {
                "file": str(path),
                "name": edit.name,
                "concepts": list(edit.concepts),
                "conditional": edit.conditional,
                "encoder": edit.fingerprint,
                "recipe": dict(edit.recipe),
                "evidence": dict(edit.evidence),
            }
        )
        return
    listed = table("site", "width", "rank", "worst residual", "drift", "worst drift", "moves most")
    for site, edit_map in edit.maps.items():
        found = edit.evidence.get(site, {})
        drift = [
            "–" if found.get(k) is None else f"{found[k]:.3f}" for k in ("drift", "worst_drift")
        ]
        worst = max(found.get("residual", {"": float("nan")}).values())
        most = ", ".join(text for text, _ in found.get("collateral", ())[:3])
        rank = str(getattr(edit_map, "rank", "–"))
        listed.add_row(site, str(edit_map.width), rank, f"{worst:.3f}", *drift, most)
    kind = "run time only" if edit.conditional else "foldable"
    results().print(f"{edit.name}: {len(edit.concepts)} concepts, {kind}, {path}", markup=False)
    results().print(f"concepts: {', '.join(edit.concepts)}", markup=False)
    preserved = edit.recipe.get("preserve") or ()
    if preserved:
        results().print(f"preserved: {', '.join(preserved)}", markup=False)
    results().print(listed)
    choice = edit.recipe.get("choice")
    if choice:
        results().print(f"solver {choice['solver']}: {choice['reason']}", markup=False)
        if choice["warning"]:
            messages().print(choice["warning"], markup=False)
    for site, found in edit.evidence.items():
        if found.get("overlapping"):
            names = ", ".join(found["overlapping"])
            messages().print(f"{site}: gates cannot tell apart {names}", markup=False)
        if found.get("condition") is not None and max(found["residual"].values()) > RESIDUAL:
            messages().print(
                f"{site}: too much for one linear map of this width (residual above {RESIDUAL}); "
                "try --solver layer (Stable Diffusion 1.x and 2.x) or --solver conditional.",
                markup=False,
            )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise BadInput(f"{shown(text)} is not NAME=VALUE.")
    return name, value


def _amount(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadInput(
            f"An amount is a number such as 0.2 or -0.1; given {shown(text)}."
        ) from error
