"""``tadasu generate``: guarded generation with any model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.cli.output import folder
from tadasu.cli.progress import counted
from tadasu.errors import shown

if TYPE_CHECKING:
    from tadasu.guard import Guard
    from tadasu.policy import Policy
    from tadasu.records import Generation


#: Letters of a prompt that stand in a file's name; three bytes each still make a name.
LONGEST_NAME = 60


class FailOn(StrEnum):
    """Which outcome makes the exit code 1."""

    NONE = "none-released"
    WITHHELD = "withheld"
    NEVER = "never"


def generate(
    prompts: Annotated[list[str], typer.Argument(help="What to draw.", show_default=False)],
    model: Annotated[
        str, typer.Option("--model", "-m", help="world, world-scenes, a folder or a hub id.")
    ] = "world",
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    guidance: Annotated[
        str | None,
        typer.Option(
            "--guidance",
            "-g",
            help="NAME[:key=value,…] or none; without it what the policy says.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Pictures per prompt.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Scale of classifier-free guidance.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Picture i of a prompt uses seed + i.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Pictures that are made together.")] = 4,
    judge: Annotated[
        str | None, typer.Option(help="Model of the judge, where the policy asks for one.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Model of the CLIP detector, where the policy asks for one.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="A torch device.")] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the released pictures.")
    ] = Path("out"),
    fail_on: Annotated[FailOn, typer.Option(help="When the exit code is 1.")] = FailOn.NONE,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Draw pictures under a policy.

    The prompt is screened, the sampling steered, every picture judged. Safe pictures are written,
    the others are listed with the reasons. Exit code 1 when no picture was released; with
    --fail-on withheld when any was not, with --fail-on never never.

    Example: tadasu generate "a cat" "a red apple" -n 2
    """
    from tadasu.cli.output import print_json
    from tadasu.policy import Policy

    rules = Policy.load(policy)
    with folder(out):
        guard = _guard(
            rules, model=model, guidance=guidance, device=device, judge=judge, clip=clip,
            sampler=(steps, scale, batch_size),
        )  # fmt: skip
        answers = guard.generate(prompts, n=n, seed=seed)
        done = [_written(each, out) for each in counted(answers, "Drawing", n * len(prompts))]
    done.sort(key=lambda each: (prompts.index(each["prompt"]), each["seed"]))
    document: dict[str, Any] = {"policy": rules.identity, "images": done}
    if json_output:
        print_json(document)
    else:
        _print(done, out)
    withheld = [each["file"] is None for each in done]
    if (fail_on is FailOn.WITHHELD and any(withheld)) or (fail_on is FailOn.NONE and all(withheld)):
        raise typer.Exit(1)


def own_detectors(model: str) -> dict[str, str]:
    """The models of the detectors that come with a bundled model; none for any other."""
    from tadasu.references import bundled

    return {"judge": model, "clip": model} if bundled(model) else {}


def load_model(ref: str, device: str | None) -> Any:
    """A pipeline from a model reference: a bundled name, a folder or a hub id."""
    from tadasu.backends.diffusers.load import load

    return load(ref, device=device)


def _guard(
    rules: Policy,
    *,
    model: str,
    guidance: str | None,
    device: str | None,
    judge: str | None,
    clip: str | None,
    sampler: tuple[int | None, float | None, int],
) -> Guard:
    if guidance and guidance != "none":
        from tadasu.guidance.registry import parse

        parse(guidance)  # a typo shows before the model is loaded
    from tadasu.guard import Guard, Sampler

    steps, scale, batch_size = sampler
    sampling = Sampler(steps=steps, guidance_scale=scale, batch_size=batch_size)
    models = own_detectors(model)
    models |= {name: ref for name, ref in (("judge", judge), ("clip", clip)) if ref}
    return Guard(
        load_model(model, device), rules, guidance=guidance, models=models or None, sampler=sampling
    )


def _written(generation: Generation, out: Path) -> dict[str, Any]:
    """The record, after its picture was written (first beside its place, then moved there)."""
    record = generation.as_json()
    if generation.image is not None:
        file = out / f"{file_name(generation.prompt)}-{generation.seed}.png"
        partial = file.with_suffix(".partial")
        generation.image.save(partial, format="PNG")
        partial.replace(file)
        record["file"] = str(file)
    return record


def file_name(prompt: str) -> str:
    """A name for a prompt's files that people can read; no two prompts share one.

    >>> file_name("a red apple"), file_name("猫")
    ('a-red-apple', '猫')
    >>> file_name("A red apple!")
    'a-red-apple-e2de1e'
    """
    import hashlib
    import re

    name = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:LONGEST_NAME]
    if name.replace("-", " ") == prompt:
        return name
    return f"{name}-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}".strip("-")


def _print(done: list[dict[str, Any]], out: Path) -> None:
    from rich.markup import escape

    from tadasu.cli.output import results

    console = results()
    colours = {"release": "green", "blur": "yellow", "hold": "yellow", "block": "red"}
    for each in done:
        colour = colours[each["decision"]]
        where = escape(each["file"] or "no picture")
        console.print(
            f"[{colour}]{each['decision']:8}[/{colour}] {escape(shown(each['prompt']))} "
            f"seed {each['seed']}: {where}"
        )
        for reason in each["reasons"]:
            console.print(f"         {escape(reason)}")
    released = sum(each["file"] is not None for each in done)
    console.print(f"{released} of {len(done)} pictures were released into {escape(str(out))}.")
