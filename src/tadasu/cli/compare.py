"""``tadasu compare``: the same seeds under several guidance rules, as a picture grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.errors import BadInput, shown

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pictures are enlarged (nearest pixel) until they are at least this wide in the grid.
LEAST_WIDTH = 96
GAP = 6
HEADING = 18


def compare(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    negative: Annotated[
        list[str],
        typer.Option("--negative", "-x", help="Steer away from this text; repeat it for more."),
    ],
    guidance: Annotated[
        str,
        typer.Option("--guidance", "-g", help="Rules, with commas between: NAME[:key=value,…],…"),
    ] = "negative_prompt,sld,sega",
    model: Annotated[
        str, typer.Option("--model", "-m", help="world, world-scenes, a folder or a hub id.")
    ] = "world",
    n: Annotated[int, typer.Option("-n", "--n", help="Seeds, one row each.")] = 4,
    seed: Annotated[int, typer.Option(help="Row i uses seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Scale of classifier-free guidance.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="A torch device.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture (PNG).")] = Path(
        "compare.png"
    ),
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Draw one prompt under several guidance rules with the same seeds, side by side.

    The first column is the plain pipeline. Nothing is judged or held back here, as in generate.

    Example: tadasu compare "a cat next to a pistol" --negative "a pistol" -g sld,presence
    """
    from tadasu.cli.generate import load_model
    from tadasu.cli.output import folder, print_json
    from tadasu.guard import Sampler
    from tadasu.guidance.registry import parse
    from tadasu.screen import check_prompt

    for text in (prompt, *negative):
        check_prompt(text)
    if not 1 <= n <= 64:
        raise BadInput(f"-n {n} must be from 1 to 64 rows.")
    rules = split_rules(guidance)
    for rule in rules:
        parse(rule)
    sampler = Sampler(steps=steps, guidance_scale=scale, batch_size=n)
    with folder(out.parent):
        pipe = load_model(model, device)
        seeds = [seed + i for i in range(n)]
        columns = [("none", _draw(pipe, prompt, seeds, sampler, None, negative))]
        columns += [(rule, _draw(pipe, prompt, seeds, sampler, rule, negative)) for rule in rules]
        partial = out.with_suffix(".partial")
        grid(columns).save(partial, format="PNG")
        partial.replace(out)
    if json_output:
        document: dict[str, Any] = {"file": str(out), "prompt": prompt, "seeds": seeds}
        print_json(document | {"columns": [name for name, _ in columns]})
    else:
        typer.echo(f"{len(columns)} columns of {n} seeds: {out}", err=True)


def split_rules(text: str) -> list[str]:
    """Rules between commas; ``key=value`` after a comma belongs to the rule before it.

    Raises:
        BadInput: there is no rule, or a value without one.

    >>> split_rules("sld:warmup=0.1,scale=500, sega:max,presence")
    ['sld:warmup=0.1,scale=500', 'sega:max', 'presence']
    """
    rules: list[str] = []
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        if "=" in item and ":" not in item:
            if not rules:
                raise BadInput(f"--guidance {shown(text)}: {shown(item)} stands before any rule.")
            rules[-1] += f",{item}"
        else:
            rules.append(item)
    if not rules:
        raise BadInput("--guidance names no rule; see tadasu methods.")
    return rules


def grid(columns: Sequence[tuple[str, Sequence[Image]]]) -> Image:
    """Pictures in columns under their headings, on white.

    Args:
        columns: heading and pictures, all of one size, as many in every column.
    """
    from PIL import Image, ImageDraw

    first = columns[0][1][0]
    factor = max(1, -(-LEAST_WIDTH // first.width))
    width, height = first.width * factor, first.height * factor
    rows = len(columns[0][1])
    size = (
        len(columns) * (width + GAP) + GAP,
        rows * (height + GAP) + GAP + HEADING,
    )
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for place, (heading, pictures) in enumerate(columns):
        left = GAP + place * (width + GAP)
        pen.text((left, 3), heading[: width // 6], fill="black")
        for row, picture in enumerate(pictures):
            enlarged = picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left, HEADING + GAP + row * (height + GAP)))
    return sheet


def _draw(
    pipe: Any,
    prompt: str,
    seeds: Sequence[int],
    sampler: Any,
    rule: str | None,
    negative: Sequence[str],
) -> list[Image]:
    from contextlib import nullcontext

    from tadasu.backends.diffusers.attach import attach
    from tadasu.backends.diffusers.sample import drawn

    with attach(pipe, rule, list(negative)) if rule else nullcontext():
        made = drawn(pipe, [prompt] * len(seeds), seeds, sampler.arguments())
    return [each.image for each in made]
