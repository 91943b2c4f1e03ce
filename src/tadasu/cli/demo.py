"""``tadasu demo``: the main job on the bundled world, with a page to look at."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from PIL.Image import Image

    from tadasu.evaluation.comparison import Ask, Column
    from tadasu.policy import Policy

#: Prompts of the suites that put an article before a plural, as the model's captions do.
PLURAL = re.compile(
    r"\ban? (\w+ )*(cherries|fireworks|glasses|grapes|hands|jeans|mugs|pancakes|peanuts|prints"
    r"|scissors|skis|sparkles|swords)\b"
)
#: Systems that are compared, with the guidance rule of each.
RULES: dict[str, str | None] = {
    "unguarded": None,
    "negative_prompt": "negative_prompt",
    "sld": "sld",
    "sega": "sega",
    "presence": "presence",
}
MEASURES: tuple[tuple[str, str, tuple[str, str]], ...] = (
    (
        "explicit",
        "unsafe",
        ("Restricted thing named: unsafe", "名指しした場合の不適切画像"),
    ),
    ("implicit", "unsafe", ("Only hinted at: unsafe", "ほのめかした場合の不適切画像")),
    ("benign", "faithful", ("Harmless: shows what was requested", "無害な依頼：依頼どおりの画像")),
    ("benign", "released", ("Harmless: released", "無害な依頼：提供された画像")),
)
NOTES: tuple[tuple[str, str], ...] = (
    (
        "Every system gets the same prompts with the same seeds. A picture is unsafe when the "
        "bundled judge scores it at or above the policy's threshold; the judge's own error rates "
        "are on its card. The guard decides by the same judge, so its rate is low by construction; "
        "its price shows in the harmless columns. Intervals are Wilson's at 95 %.",
        "すべてのシステムに、同じプロンプトを同じシードで与えています。同梱の判定器のスコアがポリシーのしきい値以上の"
        "画像を不適切とみなします。判定器の誤り率は判定器カードにあります。ガードは同じ判定器を使うため、不適切率が低いのは"
        "当然であり、その代償は無害な依頼の列に現れます。区間は Wilson の 95 % 信頼区間です。",
    ),
    (
        "Pictures in which the judge sees anything restricted are blurred until you click them.",
        "判定器が制限対象の可能性を少しでも認めた画像は、クリックするまでぼかして表示します。",
    ),
)
SUITES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "explicit": (
        ("The prompt names a restricted thing", "制限対象を名指しするプロンプト"),
        (
            "The guard refuses most of these before anything is drawn; the reason is shown.",
            "ガードは、その大半を描画前に断ります。理由を併記しています。",
        ),
    ),
    "implicit": (
        ("The prompt only hints at it", "制限対象をほのめかすだけのプロンプト"),
        (
            "The unguarded model draws something restricted for only some of these prompts, and "
            "which ones depends on the seed. Guidance changes every picture a little, so single "
            "prompts move in both directions: with so few prompts the intervals of the systems "
            "overlap, and a system that looks worse than none here is not shown to be worse.",
            "保護なしのモデルが制限対象を描くのは、このうち一部のプロンプトだけで、どれになるかはシードによって変わります。"
            "ガイダンスはどの画像も少しずつ変えるため、個々の結果は良い方にも悪い方にも動きます。件数が少なく区間は重なっている"
            "ので、ここで数値が悪く見えるシステムが、実際に劣るとは言えません。",
        ),
    ),
    "benign": (("Harmless prompts", "無害なプロンプト"), ("", "")),
}


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the page.")] = Path("demo"),
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    n: Annotated[int, typer.Option("-n", "--n", help="Prompts per suite.")] = 12,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 15,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Show the main jobs on the bundled world, on one page.

    The same prompts with and without protection, an edit before and after, files examined, and an
    answer about a picture aligned.

    Example: tadasu demo --out demo
    """
    from tadasu import world
    from tadasu.cli import demo_sections
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
        pipe = world.pipeline()
        columns = _columns(pipe, asks, rules, steps)
        sections = demo_sections.all_of(pipe, rules, steps)
        page.write(
            target, asks, columns,
            title=title, notes=NOTES, measures=MEASURES, suites=SUITES, sections=sections,
        )  # fmt: skip
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
        prompts = [p for p in world.suite(name).prompts if not PLURAL.search(p.text)]
        stride = max(len(prompts) // n, 1)
        for i, prompt in enumerate(prompts[::stride][:n]):
            shows = prompt.objects if name == "benign" else ()
            asks.append(Ask(text=prompt.text, seed=i, suite=name, shows=shows))
    return asks


def _columns(pipe: Any, asks: Sequence[Ask], rules: Policy, steps: int) -> list[Column]:
    from tadasu import world
    from tadasu.backends.detectors import load
    from tadasu.cli.generate import own_detectors
    from tadasu.cli.progress import watched
    from tadasu.evaluation.comparison import Column, guarded, judged, steered
    from tadasu.guard import Guard, Sampler

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
