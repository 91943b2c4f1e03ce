"""``tadasu demo``: the main job on the bundled world, with a page to look at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from PIL.Image import Image

    from tadasu.evaluation.comparison import Ask, Column
    from tadasu.policy import Policy

#: Systems that are compared, with the guidance rule of each.
RULES: dict[str, str | None] = {
    "unguarded": None,
    "negative_prompt": "negative_prompt",
    "sld": "sld",
    "sega": "sega",
    "presence": "presence",
}
MEASURES: tuple[tuple[str, str, tuple[str, str]], ...] = (
    ("explicit", "unsafe", ("Unsafe, explicit prompts", "危険率（明示的）")),
    ("implicit", "unsafe", ("Unsafe, implicit prompts", "危険率（暗示的）")),
    ("benign", "faithful", ("Shows what was asked, harmless prompts", "無害な依頼に忠実な割合")),
    ("benign", "released", ("Released, harmless prompts", "無害な依頼への提供率")),
)
NOTES: tuple[tuple[str, str], ...] = (
    (
        "Every system gets the same prompts with the same seeds. What is unsafe is read off by the "
        "bundled judge at the policy's threshold; its own error rates stand in its card. The guard "
        "decides by the same judge, so its rate is low by construction: what it costs shows in the "
        "harmless columns. Intervals are Wilson's at 95 %.",
        "どのシステムにも同じプロンプトと同じシードを与えます。危険かどうかは同梱の判定器がポリシーのしきい値で"
        "判定し、判定器自身の誤り率はカードに記載しています。ガードは同じ判定器で決定するため、その値が低いのは"
        "当然です。代償は無害なプロンプトの列に現れます。区間は Wilson の 95 % 区間です。",
    ),
    (
        "Pictures that the judge flags are blurred until you click them.",
        "判定器が検出した画像は、クリックするまでぼかして表示します。",
    ),
)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")] = Path("demo"),
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    n: Annotated[int, typer.Option("-n", "--n", help="Prompts per suite.")] = 24,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 15,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Show the main job on the bundled world: the same prompts with and without protection.

    Example: tadasu demo --out demo
    """
    from tadasu.cli.output import folder, print_json
    from tadasu.evaluation import page
    from tadasu.policy import Policy

    rules = Policy.load(policy)
    began = time.perf_counter()
    target = out / "index.html"
    title = (
        "Tadasu: the same prompts, with and without protection",
        "Tadasu：保護の有無による比較",
    )
    with folder(out):
        asks = _asks(n)
        columns = _columns(asks, rules, steps)
        page.write(target, asks, columns, title=title, notes=NOTES, measures=MEASURES)
    figures = _figures(asks, columns, rules, time.perf_counter() - began)
    if json_output:
        print_json({"file": str(target), **figures})
    else:
        _print(figures, target)


def _asks(n: int) -> list[Ask]:
    """The first n prompts of each suite, spread over it."""
    from tadasu import world
    from tadasu.evaluation.comparison import Ask

    asks = []
    for name in ("explicit", "implicit", "benign"):
        prompts = world.suite(name).prompts
        stride = max(len(prompts) // n, 1)
        for i, prompt in enumerate(prompts[::stride][:n]):
            shows = prompt.objects if name == "benign" else ()
            asks.append(Ask(text=prompt.text, seed=i, suite=name, shows=shows))
    return asks


def _columns(asks: Sequence[Ask], rules: Policy, steps: int) -> list[Column]:
    from tadasu import world
    from tadasu.backends.detectors import load
    from tadasu.cli.generate import own_detectors
    from tadasu.cli.progress import watched
    from tadasu.evaluation.comparison import Column, guarded, judged, steered
    from tadasu.guard import Guard, Sampler

    pipe = world.pipeline()
    sampler = Sampler(steps=steps, batch_size=24)
    judge: Any = load("judge", concepts=rules.concepts, model=str(world.folder("judge")))

    def names(images: Sequence[Image]) -> list[set[str]]:
        return world.shown_in(judge.network, images)

    columns = [Column(name=name) for name in (*RULES, "guard")]
    done = 0
    with watched() as progress:
        for column in columns:
            if column.name == "guard":
                guard = Guard(pipe, rules, models=own_detectors("world"), sampler=sampler)
                made = guarded(guard, asks)
            else:
                made = steered(pipe, asks, RULES[column.name], rules, sampler)
            for cells in made:
                column.cells.extend(cells)
                done += len(cells)
                progress("Drawing", done, len(asks) * len(columns))
            judged(column.cells, asks, rules, judge, names)
    return columns


def _figures(
    asks: Sequence[Ask], columns: Sequence[Column], rules: Policy, seconds: float
) -> dict[str, Any]:
    return {
        "policy": rules.identity,
        "seconds": round(seconds, 1),
        "systems": {
            column.name: {
                "seconds_per_picture": round(column.seconds, 3),
                **{
                    f"{suite} {what}": column.rate(asks, suite, what).as_json()
                    for suite, what, _ in MEASURES
                },
            }
            for column in columns
        },
    }


def _print(figures: dict[str, Any], page: Path) -> None:
    from rich.table import Table

    from tadasu.cli.output import results

    table = Table(title="95 % Wilson intervals in brackets")
    table.add_column("system")
    for suite, what, _ in MEASURES:
        table.add_column(f"{suite}\n{what}", justify="right")
    table.add_column("s/picture", justify="right")
    for name, row in figures["systems"].items():
        cells = [_cell(row[f"{suite} {what}"]) for suite, what, _ in MEASURES]
        table.add_row(name, *cells, f"{row['seconds_per_picture']:.2f}")
    console = results()
    console.print(table)
    console.print(f"The page is {page} ({figures['seconds']:.0f} s).")


def _cell(rate: dict[str, Any]) -> str:
    if not rate["n"]:
        return "– (n=0)"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['value']:.0f} %\n[{low:.0f}–{high:.0f}] n={rate['n']}"
