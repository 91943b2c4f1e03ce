"""The commands of ``tadasu edit`` that read an edit file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.cli.edit_make import Captions, Json, Model, lines, report
from tadasu.cli.output import messages, print_json, results
from tadasu.editing.limits import DRIFT, RESIDUAL, SHOWN
from tadasu.errors import BadInput, shown
from tadasu.references import bundled

if TYPE_CHECKING:
    from tadasu.editing.edit import Edit
    from tadasu.editing.pictures import Shown
    from tadasu.editing.preview import See

File = Annotated[Path, typer.Argument(help="An edit file.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Apply to another text encoder as well.")]


def show(file: File, json_output: Json = False) -> None:
    """Say what an edit file holds, after checking that nobody changed it.

    Example: tadasu edit erase pistol --out no-weapons.safetensors &&
    tadasu edit show no-weapons.safetensors
    """
    from tadasu.editing import artefact

    report(artefact.load(file), file, json_output)


def check(
    file: File,
    model: Model = "world",
    captions: Captions = None,
    residual: Annotated[
        float, typer.Option(help="Largest residual of a concept in sentences not solved for.")
    ] = RESIDUAL,
    drift: Annotated[float, typer.Option(help="Largest mean drift of held-out texts.")] = DRIFT,
    pictures: Annotated[
        int, typer.Option(help="Also draw so many pictures of each text, before and after.")
    ] = 0,
    judge: Annotated[
        str | None,
        typer.Option(help="Classifier that names what is in them: world, a folder, a hub id."),
    ] = None,
    force: Force = False,
    json_output: Json = False,
) -> None:
    """Measure an edit on a model; exit code 1 when it falls short.

    Residuals are measured in sentences that the edit was not solved for. With --pictures it is
    also drawn and judged: changed names, preserved texts and unrelated things, before and after.

    Example: tadasu world samples &&
    tadasu edit erase pistol --out no-weapons.safetensors &&
    tadasu edit check no-weapons.safetensors --captions samples/captions.csv
    """
    from tadasu.editing import artefact
    from tadasu.editing.check import require

    edit = artefact.load(file)
    held_out = tuple(lines(captions)) if captions else ()
    pipe = _model(model)
    checks = edit.check(pipe, held_out, force=force)
    fallen = list(require(checks, residual=residual, drift=drift))
    drawn = _judged(edit, pipe, judge or model, pictures) if pictures else ()
    fallen += [_told(each) for each in drawn if not each.passed]
    if json_output:
        found: dict[str, Any] = {site: result.as_json() for site, result in checks.items()}
        seen = {f"{each.kind} {each.text}": each.as_json() for each in drawn}
        print_json({"file": str(file), "short": [*fallen], "sites": found, "pictures": {**seen}})
    else:
        for site, result in checks.items():
            mean = "not measured" if result.drift is None else f"{result.drift:.3f}"
            results().print(
                f"{site}: worst residual {result.worst_residual:.3f}, drift {mean}", markup=False
            )
        for each in drawn:
            if each.passed:
                results().print(_told(each), markup=False)
        for reason in fallen:
            messages().print(reason, markup=False)
    if fallen:
        raise typer.Exit(1)


def preview(
    file: File,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to draw; else the edited concepts and some of what is preserved."
        ),
    ] = None,
    model: Model = "world",
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="Whose concepts are blurred: a name or a file.")
    ] = "kids",
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("preview.html"),
    n: Annotated[int, typer.Option("-n", "--n", help="Seeds per prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Classifier that names what is seen: world, a folder, a hub id, or none."
        ),
    ] = None,
    force: Force = False,
    json_output: Json = False,
) -> None:
    """Draw prompts with and without an edit, from the same seeds, on one page.

    The page shows both pictures, where they differ, and a table of what a judge sees, with
    intervals. Pictures of prompts that name an edited concept, or one of the policy's, are blurred
    until clicked.

    Example: tadasu edit erase pistol --out no-weapons.safetensors &&
    tadasu edit preview no-weapons.safetensors "a cat next to a pistol" --out page.html
    """
    from tadasu.editing import artefact
    from tadasu.policy import Policy

    if n < 1:
        raise BadInput(f"-n is at least 1; given {n}.")
    edit, rules = artefact.load(file), Policy.load(policy)
    chosen = judge or (model if bundled(model) else "none")
    see = None if chosen == "none" else _see(chosen)
    found = edit.preview(
        _model(model),
        rules,
        prompts=prompts or (),
        seeds=range(seed, seed + n),
        steps=steps,
        see=see,
        force=force,
    )
    found.save(out)
    if json_output:
        print_json(
            {
                "page": str(out),
                "pairs": [
                    {"prompt": p.prompt, "seed": p.seed, "distance": p.distance}
                    for p in found.pairs
                ],
                "seen": {
                    group: {"before": {**before.as_json()}, "after": {**after.as_json()}}
                    for group, (before, after) in found.rates.items()
                },
            }
        )
        return
    results().print(f"{len(found.pairs)} pairs: {out}", markup=False)
    for group, (before, after) in found.rates.items():
        told = [
            f"{100 * r.value:.0f} % [{100 * r.low:.0f}, {100 * r.high:.0f}]"
            for r in (before, after)
        ]
        results().print(f"{group}: {told[0]} before, {told[1]} after, n={after.n}", markup=False)


def _see(ref: str) -> See:
    """What a classifier names in pictures."""
    return _judge(ref)[0]


def _judge(ref: str) -> tuple[See, tuple[str, ...]]:
    """What a classifier names in pictures, and all that it knows."""
    from tadasu import world
    from tadasu.backends.transformers.classifier import Classifier

    network = Classifier(ref)
    known = tuple(label for label in network.labels if world.is_object(label))
    return (lambda pictures: world.shown_in(network, pictures)), known


def _judged(edit: Edit, pipe: Any, judge: str, count: int) -> tuple[Shown, ...]:
    """The edit in pictures of its names, of what it preserves and of unrelated things."""
    from tadasu.editing.models import model_of
    from tadasu.editing.pictures import apart, judged

    see, known = _judge("world" if bundled(judge) else judge)
    return judged(edit, model_of(pipe), see, pictures=count, unrelated=apart(edit, known))


def _told(each: Shown) -> str:
    """One text in pictures, in a line."""
    before, after = (
        f"{rate.count} of {rate.n} [{100 * rate.low:.0f}, {100 * rate.high:.0f}] %"
        for rate in (each.before, each.after)
    )
    wanted = f"upper limit at most {100 * SHOWN:.0f} %" if each.kind == "changed" else "no loss"
    verdict = "pass" if each.passed else f"fail ({wanted})"
    return f"{each.kind} {shown(each.text)}: seen in {before} before, {after} after: {verdict}"


def export(
    file: File,
    model: Model = "world",
    layout: Annotated[
        str, typer.Option("--format", "-f", help="diffusers, or kohya for ComfyUI and A1111.")
    ] = "diffusers",
    out: Annotated[Path, typer.Option("--out", "-o", help="The LoRA file.")] = Path(
        "lora.safetensors"
    ),
    force: Force = False,
    json_output: Json = False,
) -> None:
    """Write an edit as a LoRA file for one model.

    Example: tadasu edit erase pistol --out no-weapons.safetensors &&
    tadasu edit export no-weapons.safetensors --format kohya --out lora.safetensors
    """
    from tadasu.editing import artefact

    edit = artefact.load(file)
    edit.plain_maps()  # refused before the model is loaded
    edit.export(_model(model), out, format=layout, force=force)
    if json_output:
        print_json({"file": str(out), "format": layout, "bytes": out.stat().st_size})
    else:
        results().print(f"{out}: {out.stat().st_size:,} bytes, {layout} layout", markup=False)


def apply(
    files: Annotated[list[Path], typer.Argument(help="Edit files.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the edited model.")],
    model: Model = "world",
    limit: Annotated[float, typer.Option(help="Largest interference of two edits.")] = 0.5,
    force: Force = False,
    json_output: Json = False,
) -> None:
    """Fold edits into a model's weights and save the model.

    Edits that would redirect each other are refused before anything is written.

    Example: tadasu edit erase pistol --out no-weapons.safetensors &&
    tadasu edit apply no-weapons.safetensors --out safer-model
    """
    from tadasu.backends.diffusers.load import save
    from tadasu.editing import artefact
    from tadasu.editing.edit import check_stack, interference

    edits = [artefact.load(file) for file in files]
    check_stack(edits, limit)
    if out.exists() and any(out.iterdir()):
        raise BadInput(f"The folder {shown(out)} is not empty; nothing was written.")
    pipe = _model(model)
    for edit in edits:
        edit.fold(pipe, force=force, limit=limit)
    save(pipe, out, like=model)
    pairs = {f"{a} + {b}": value for (a, b), value in interference(edits).items()}
    if json_output:
        print_json({"model": str(out), "edits": [e.name for e in edits], "interference": {**pairs}})
    else:
        results().print(f"{', '.join(edit.name for edit in edits)} folded into {out}", markup=False)


def prior(
    captions: Annotated[Path, typer.Argument(help="One a line, or a CSV.", show_default=False)],
    model: Model = "world",
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The prior; a folder names it after the text encoder."),
    ] = Path("prior.safetensors"),
    limit: Annotated[int | None, typer.Option(help="Read only so many captions.")] = None,
    json_output: Json = False,
) -> None:
    """Measure what ordinary captions use of a model's text space.

    Example: tadasu world samples &&
    tadasu edit prior samples/captions.csv --out prior.safetensors
    """
    import time

    from tadasu.editing.models import model_of
    from tadasu.editing.prior import Prior, file_name

    texts = lines(captions)[:limit]
    encoder = model_of(_model(model)).encoder()
    began = time.perf_counter()
    with messages().status(f"Reading {len(texts):,} captions"):
        measured = Prior.measure(encoder, texts)
    seconds = time.perf_counter() - began
    file = out / file_name(measured.fingerprint) if out.is_dir() else out
    measured.save(file)
    sites = {
        site: {"rows": moment.rows, "condition": moment.condition}
        for site, moment in measured.moments.items()
    }
    if json_output:
        found: dict[str, Any] = {"file": str(file), "captions": measured.captions}
        print_json(found | {"seconds": seconds, "sites": sites})
    else:
        results().print(f"{measured.captions:,} captions in {seconds:.0f} s: {file}", markup=False)
        for site, each in sites.items():
            results().print(f"{site}: {each['rows']:,} rows, condition {each['condition']:.1e}")


def _model(ref: str) -> Any:
    from tadasu.cli.generate import load_model

    return load_model(ref, None)
