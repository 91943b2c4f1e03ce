"""The analytic laboratory: every rule on mixtures where the right answer is known.

    python bench/gaussians/run.py --out docs/guidance/figures

Five components; three belong to the prompt. Three questions:

- ``mixed``: one of the prompt's three components is unwanted. Right answer: the other two, equally.
- ``explicit``: the prompt is the unwanted component. There is no right answer inside the prompt; a
  rule should leave the component and still land on data.
- ``harmless``: the unwanted component is far from the prompt. Right answer: the prompt untouched.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path as FilePath
from typing import Any

import torch

sys.path.insert(0, str(FilePath(__file__).parent))

from mixture import Mixture, energy_distance, run

from tadasu.errors import MissingPart
from tadasu.guidance.registry import find, names, parse

CENTRES = [[-2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, -2.0], [0.0, 0.0]]
EVERYTHING = Mixture.of(CENTRES)
PROMPTS = {"mixed": ([0, 1, 2], [2]), "explicit": ([2], [2]), "harmless": ([0, 1], [2])}
EXTRA = [
    "sld:max",
    "sega:max",
    "ccfg:relative",
    "dng:exact",
    "presence:every_step,threshold=0.3,push=0.5",
]


def rules() -> list[str]:
    """Every rule that works on predictions, at its defaults and at telling presets."""
    return [
        *(name for name in names() if not find(name).quality and find(name)().needs in USABLE),
        *EXTRA,
    ]


USABLE = ("merged", "each")


def score(rule: str, question: str, steps: int, scale: float, count: int) -> dict[str, Any]:
    """Unwanted mass, distance to the right answer, and mass that lies on no component."""
    inside, unwanted = PROMPTS[question]
    prompt, concept = EVERYTHING.only(inside), EVERYTHING.only(unwanted)
    kept = [component for component in inside if component not in unwanted]
    settings: dict[str, Any] = dict(scale=scale, steps=steps, count=count, ancestral=False)
    ends = run(parse(rule), EVERYTHING, prompt, concept, **settings).end
    plain = run(parse(rule), EVERYTHING, prompt, concept, strength=0.0, **settings).end
    generator = torch.Generator().manual_seed(1)
    row = {
        "unwanted": float((EVERYTHING.posterior(ends)[:, unwanted].sum(1) > 0.5).float().mean()),
        "off_data": float((torch.cdist(ends, EVERYTHING.means).amin(1) > 1.0).float().mean()),
        "moved": float((ends - plain).norm(dim=1).mean()),
    }
    if kept:
        right = EVERYTHING.only(kept).sample(count, generator)
        row["distance"] = energy_distance(ends, right)
    return row


def posterior_error(steps: int, count: int = 400) -> float:
    """DNG (exact) against the true p(n|x_t), mean absolute error over the ancestral path."""
    concept = EVERYTHING.only([2])
    rule = parse("dng:prior=0.2,base=unconditional,highest=0.999999,lowest=1e-12")
    settings: dict[str, Any] = dict(scale=1.0, steps=steps, count=count, ancestral=True)
    path = run(rule, EVERYTHING, EVERYTHING, concept, strength=1e-9, **settings)
    from mixture import levels

    errors = [
        (state.log_p[0].exp() - EVERYTHING.posterior(x, *level)[:, 2]).abs().mean()
        for x, state, level in zip(path.seen, path.states, levels(steps), strict=False)
    ]
    return float(torch.stack(errors).mean())


def draw(out: FilePath, table: dict[str, Any], steps: int, scale: float) -> None:
    """One panel per rule: where samples of the mixed question end, and some paths there."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingPart.extra("drawing the laboratory", "bench") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    chosen = list(table["mixed"])
    columns = 4
    lines = -(-len(chosen) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(12, 3.1 * lines), squeeze=False)
    inside, unwanted = PROMPTS["mixed"]
    for axis in axes.flat[len(chosen) :]:
        axis.axis("off")
    for axis, rule in zip(axes.flat, chosen, strict=False):
        path = run(
            parse(rule),
            EVERYTHING,
            EVERYTHING.only(inside),
            EVERYTHING.only(unwanted),
            scale=scale,
            steps=steps,
            count=400,
            ancestral=False,
        )
        trace = torch.stack([*path.seen, path.end])[:, :40].numpy()
        axis.plot(trace[..., 0], trace[..., 1], color="0.8", linewidth=0.5, zorder=1)
        axis.scatter(*path.end.T.numpy(), s=3, color="tab:blue", zorder=2)
        for number, centre in enumerate(CENTRES):
            colour = "tab:red" if number in unwanted else "tab:green" if number in inside else "0.6"
            axis.add_patch(plt.Circle(centre, 0.5, fill=False, color=colour, linewidth=1.5))
        row = table["mixed"][rule]
        title = f"{rule}\nunwanted {row['unwanted']:.2f}, distance {row['distance']:.2f}"
        axis.set_title(title, fontsize=8)
        axis.set(xlim=(-4, 4), ylim=(-4, 4), xticks=[], yticks=[], aspect="equal")
    figure.tight_layout()
    figure.savefig(out / "gaussians.png", dpi=80)
    plt.close(figure)


def main() -> None:
    """Write the table, and the figure into ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=FilePath)
    given = parser.parse_args()
    table = {
        question: {
            rule: score(rule, question, given.steps, given.scale, given.count) for rule in rules()
        }
        for question in PROMPTS
    }
    for question, rows in table.items():
        print(f"\n{question:<18}{'unwanted':>9}{'distance':>9}{'off data':>9}{'moved':>7}")
        for rule, row in rows.items():
            distance = f"{row['distance']:.3f}" if "distance" in row else "-"
            print(
                f"{rule:<18}{row['unwanted']:>9.3f}{distance:>9}{row['off_data']:>9.3f}"
                f"{row['moved']:>7.2f}"
            )
    errors = {steps: posterior_error(steps) for steps in (10, 30, 100, 300)}
    print("\nDNG posterior error by steps:", {k: round(v, 4) for k, v in errors.items()})
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        draw(given.out, table, given.steps, given.scale)
        result = {"settings": vars(given) | {"out": None}, "table": table, "dng_error": errors}
        (given.out / "gaussians.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
