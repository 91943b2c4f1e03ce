"""Erase 1, 10, 50, 100 concepts and 1, 3 styles of the emoji world with every solver.

    python bench/editing_world.py --concepts concepts.json --out docs/editing/world
    python bench/editing_world.py --concepts concepts.json --out docs/editing/ways \\
        --counts 100 --styles --systems "uce mean" "uce near" "uce last" "speed rece" layer

``concepts.json`` is the list that the world's recipe writes (English and Japanese names per
concept). For every system the same prompts are drawn from the same seeds. Columns: erased
(the judge's first choice among objects is the asked one), retained, Japanese leak (the same for the
Japanese name), distance (mean absolute pixel difference of retained pictures to the unedited ones,
0 to 1), harmonic (of 1 - erased and of retained relative to the unedited model). Intervals are 95 %
Wilson. The form says where the edit lives: ``weights`` and ``model`` (one more layer of the text
encoder) survive in files that others run, ``run time`` has to be attached. The denoiser runs in
bfloat16. Results are written after every system, so an interrupted run keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tadasu import world as bundled
from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.fold import fold, unfold
from tadasu.backends.diffusers.context.ports import gram, ports
from tadasu.backends.diffusers.context.text import HiddenEncoder
from tadasu.editing.encoder import Encoded
from tadasu.editing.prior import Prior
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.rece import adversarial
from tadasu.editing.registry import parse
from tadasu.editing.targets import Target
from tadasu.statistics.intervals import wilson

STYLES = ("noto", "blob", "flat", "fluent", "twemoji", "emojione")
TEMPLATES = ("{}", "noto emoji of a {}", "a {} next to a book on a white background")
ENDING = TEMPLATES[:2]
SEVERAL = ("{}", "a {}", "noto emoji of a {}", "twemoji {}")
OF_STYLES = ("{}", "{} emoji of a cat", "{} emoji of a book")
PUBLISHED = ("uce:v1", "uce:v2", "rece", "speed", "cure")
OURS = ("uce", "layer", "conditional")
SYSTEMS = ("none", *OURS[::-1], *PUBLISHED)


@dataclass(frozen=True)
class Prompt:
    text: str
    label: str
    kind: str  # erased, retained, japanese
    seed: int


def article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def concept_prompts(erased: list[dict], kept: list[dict], n: int, seed: int) -> list[Prompt]:
    """``n`` erased, ``n`` retained and ``n / 3`` Japanese prompts."""
    rng = np.random.default_rng(seed)
    forms = ("a {}", "{style} emoji of a {}", "{}", "{style} {}")

    def single(concept: dict, k: int) -> str:
        form = forms[k % len(forms)]
        name = concept["en"]
        text = form.replace("a {}", article(name)).replace("{}", name)
        return text.replace("{style}", STYLES[k % len(STYLES)])

    prompts = []
    for kind, pool in (("erased", erased), ("retained", kept)):
        order = [pool[i % len(pool)] for i in rng.permutation(max(n, len(pool)))[:n]]
        prompts += [Prompt(single(c, k), c["en"], kind, 1000 + k) for k, c in enumerate(order)]
    for k in range(n // 3):
        gone = erased[k % len(erased)]
        prompts.append(Prompt(gone["ja"], gone["en"], "japanese", 3000 + k))
    return prompts


def style_prompts(gone: list[str], stay: list[str], concepts: list[dict], n: int) -> list[Prompt]:
    """Prompts that name an erased or a retained style."""
    prompts = []
    for kind, styles in (("erased", gone), ("retained", stay)):
        for k in range(n):
            name = article(concepts[(5 * k) % len(concepts)]["en"])
            style = styles[k % len(styles)]
            prompts.append(Prompt(f"{style} emoji of {name}", f"style {style}", kind, 1000 + k))
    return prompts


class Remembering:
    """Encodes every text once; the context is the hidden row after its normalisation."""

    def __init__(self, pipe: Any) -> None:
        self.encoder, self.known = HiddenEncoder(pipe, batch=64), {}
        inner = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
        self.normal = inner.final_layer_norm
        self.fingerprint = self.encoder.fingerprint

    def hidden(self, texts: Any) -> Encoded:
        """Last-layer rows of texts, each encoded once."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            found = self.encoder.encode(new)["layer"]
            rows = zip(found.contexts, found.spans, strict=True)
            self.known |= dict(zip(new, rows, strict=True))
        rows = [self.known[text] for text in texts]
        contexts = torch.stack([context for context, _ in rows])
        return Encoded(contexts=contexts, spans=tuple(where for _, where in rows))

    def encode(self, texts: Any) -> dict[str, Encoded]:
        found = self.hidden(texts)
        return {"context": replace(found, contexts=self.normal(found.contexts))}


@dataclass(frozen=True)
class Hidden:
    """The same texts as hidden rows."""

    memory: Remembering

    @property
    def fingerprint(self) -> str:
        return self.memory.fingerprint

    def encode(self, texts: Any) -> dict[str, Encoded]:
        return {"layer": self.memory.hidden(texts)}


def lighten(pipe: Any) -> None:
    """Run the denoiser alone in bfloat16; texts, latents and the scheduler stay in float32."""
    unet = pipe.unet.to(torch.bfloat16)
    forward = unet.forward

    def cast(sample: Any, timestep: Any, encoder_hidden_states: Any, **rest: Any) -> Any:
        context = encoder_hidden_states.bfloat16()
        return (forward(sample.bfloat16(), timestep, context, **rest)[0].float(),)

    unet.forward = cast


class World:
    def __init__(self, pipeline: Path, judge: Path, steps: int, batch: int) -> None:
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
        from transformers import AutoModelForImageClassification

        self.pipe = StableDiffusionPipeline.from_pretrained(pipeline, dtype=torch.float32)
        self.pipe.scheduler = DPMSolverMultistepScheduler.from_config(self.pipe.scheduler.config)
        self.pipe.set_progress_bar_config(disable=True)
        self.encoder = Remembering(self.pipe)
        self.hidden = Hidden(self.encoder)
        self.gram = gram(ports(self.pipe)["context"])
        lighten(self.pipe)
        self.judge = AutoModelForImageClassification.from_pretrained(judge, dtype=torch.float32)
        processor = json.loads((judge / "preprocessor_config.json").read_text())
        self.size = processor["size"]["height"]
        self.labels = [self.judge.config.id2label[i] for i in range(self.judge.config.num_labels)]
        self.steps, self.batch = steps, batch
        people = {"man", "woman", "light skin", "medium skin", "dark skin"}
        style = np.array([label.startswith("style ") for label in self.labels])
        person = np.array([label in people for label in self.labels])
        self.groups = {"style": style, "object": ~style & ~person}

    @torch.no_grad()
    def draw(self, prompts: list[Prompt]) -> np.ndarray:
        """Pictures of prompts from their seeds, values 0 to 1."""
        pictures = []
        for i in range(0, len(prompts), self.batch):
            some = prompts[i : i + self.batch]
            pictures.append(
                self.pipe(
                    [p.text for p in some],
                    num_inference_steps=self.steps,
                    generator=[torch.Generator().manual_seed(p.seed) for p in some],
                    output_type="np",
                ).images
            )
        return np.concatenate(pictures)

    @torch.no_grad()
    def scores(self, pictures: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(pictures).float().permute(0, 3, 1, 2) * 2 - 1
        x = torch.nn.functional.interpolate(x, size=self.size, mode="bilinear", antialias=True)
        return torch.cat([self.judge(part).logits for part in x.split(64)]).numpy()

    def hit(self, scores: np.ndarray, label: str) -> bool:
        number = self.labels.index(label)
        group = self.groups["style" if label.startswith("style ") else "object"]
        return int(np.argmax(np.where(group, scores, -np.inf))) == number


@dataclass(frozen=True)
class Way:
    """How one system is asked.

    Args:
        solver: takes a problem.
        reading: token modes and templates.
        anchor: what the concepts shall mean; ``near`` is the nearest kept concept.
        languages: of the concepts' names.
    """

    solver: Callable[[Problem], Any]
    reading: Reading
    anchor: str | None = ""
    languages: tuple[str, ...] = ("en", "ja")


def way(name: str, styles: bool) -> Way:
    """Published systems read English names as published; ours read both languages in sentences."""
    if name in PUBLISHED:
        solver = parse(name)
        return Way(solver.solve, solver.reading, languages=("en",))
    form = {"preserve_tokens": "last+tail", "templates": OF_STYLES if styles else TEMPLATES}
    tail = Reading(tokens="last+tail", **form)
    if name == "conditional":
        return Way(parse(name).solve, tail, None)
    if name == "layer":
        form["templates"] = OF_STYLES if styles else SEVERAL
        reading = Reading(tokens="last+tail", hidden=True, inner=True, **form)
        return Way(parse(name).solve, reading, None if styles else "")
    uce = parse("uce").solve
    ending = replace(tail, templates=OF_STYLES if styles else ENDING)
    return {
        "uce": Way(uce, ending, None if styles else ""),
        "uce mean": Way(uce, tail, None),
        "uce near": Way(uce, ending, "near"),
        "uce last": Way(uce, replace(ending, tokens="last", preserve_tokens="last"), None),
        "speed rece": Way(speed_then_rece, replace(ending, tokens="last", preserve_tokens="last")),
    }[name]


def speed_then_rece(problem: Problem) -> Any:
    """SPEED's null space, then RECE's search for what still makes the old picture, once more."""
    speed = parse("speed:cutoff=1")
    first = speed.solve(problem)
    found = adversarial(first, problem.gram, problem.sources, 0.1)
    return speed.solve(replace(problem, sources=found)).then(first).compressed()


def nearest(world: World, erased: list[dict], kept: Kept) -> dict[str, str]:
    """Per erased concept the kept English name that the projections read most alike."""
    names = [text for text in kept.texts if text.isascii()]
    found = world.encoder.encode([*(c["en"] for c in erased), *names])["context"]
    rows = torch.stack([found.rows(i, found.spans[i], "eot")[0] for i in range(len(found.spans))])
    seen = rows @ torch.linalg.cholesky(world.gram + 1e-6 * torch.eye(len(world.gram)).double())
    near = torch.cdist(seen[: len(erased)], seen[len(erased) :]).argmin(1).tolist()
    return {c["en"]: names[k] for c, k in zip(erased, near, strict=True)}


def solve(name: str, world: World, erased: list[dict], kept: Kept, *, styles: bool) -> Any:
    """The map of one system, with the reading that suits it (published ones as published)."""
    how = way(name, styles)
    anchors = nearest(world, erased, kept) if how.anchor == "near" else {}
    targets = [
        Target(
            concept=c["en"],
            texts=tuple(dict.fromkeys(c[language] for language in how.languages)),
            anchor=anchors.get(c["en"], how.anchor),
        )
        for c in erased
    ]
    if name in PUBLISHED:
        kept = replace(kept, prior=None, captions=())
    if how.reading.hidden:
        kept = replace(kept, prior=None)
    encoder = world.hidden if how.reading.hidden else world.encoder
    grams = {"context": world.gram}
    problems = assemble(encoder, targets, reading=how.reading, kept=kept, grams=grams)
    ((_, problem),) = problems.items()
    return how.solver(problem)


def measure(world: World, prompts: list[Prompt], plain: np.ndarray | None) -> tuple[dict, Any]:
    """One row of the table: shares by kind of prompt, and the distance to the plain pictures."""
    pictures = world.draw(prompts)
    scores = world.scores(pictures)
    row: dict[str, Any] = {}
    for kind in ("erased", "retained", "japanese"):
        own = [i for i, p in enumerate(prompts) if p.kind == kind]
        hits = sum(world.hit(scores[i], prompts[i].label) for i in own)
        found = wilson(hits, len(own))
        low, high = found.low, found.high
        row[kind] = {"hits": hits, "n": len(own), "low": low, "high": high}
    if plain is not None:
        kept = [i for i, p in enumerate(prompts) if p.kind == "retained"]
        row["distance"] = float(np.abs(pictures[kept] - plain[kept]).mean())
    return row, pictures


def share(cell: dict) -> float:
    return cell["hits"] / cell["n"] if cell["n"] else math.nan


def show(cell: dict) -> str:
    if not cell["n"]:
        return "–"
    return f"{100 * share(cell):.0f} [{100 * cell['low']:.0f}, {100 * cell['high']:.0f}]"


def table(results: list[dict]) -> str:
    """All rows as Markdown."""
    lines = [
        "| task | system | form | erased % ↓ | retained % ↑ | Japanese leak % ↓ "
        "| distance ↓ | harmonic ↑ | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        base = next(x for x in results if x["task"] == r["task"] and x["system"] == "none")
        gone, kept = (
            1 - share(r["erased"]),
            share(r["retained"]) / max(share(base["retained"]), 1e-9),
        )
        harmonic = 2 * gone * kept / (gone + kept) if gone + kept else 0.0
        cells = [show(r[k]) for k in ("erased", "retained", "japanese")]
        distance = f"{r['distance']:.3f}" if "distance" in r else "–"
        lines.append(
            f"| {r['task']} | {r['system']} | {r['form']} | {' | '.join(cells)} | {distance} "
            f"| {100 * harmonic:.1f} | {r['seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def write(results: list[dict], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "editing_world.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
    (out / "editing_world.md").write_text(table(results))


def run_task(
    world: World, task: str, prompts: list[Prompt], erased: list[dict], kept: Kept, args: Any
) -> list[dict]:
    """Every system on one task; a solver that fails is a row that says so."""
    rows, plain = [], None
    for name in ["none", *(s for s in args.systems if s != "none")]:
        start = time.perf_counter()
        form, failed, edit = "–", "", None
        try:
            if name != "none":
                edit = solve(name, world, erased, kept, styles=task.endswith("styles"))
                form = {"conditional": "run time", "layer": "model"}.get(name, "weights")
        except Exception as error:  # a solver that refuses is a result
            failed = str(error)
        seconds = time.perf_counter() - start
        if failed:
            print(f"{task} {name}: {failed}", flush=True)
            continue
        if form == "run time":
            with applied(world.pipe, {"context": edit}):
                row, pictures = measure(world, prompts, plain)
        elif edit is not None:
            fold(world.pipe, "edit", {"layer" if form == "model" else "context": edit})
            row, pictures = measure(world, prompts, plain)
            unfold(world.pipe, "edit")
        else:
            row, pictures = measure(world, prompts, None)
            plain = pictures
        rows.append({"task": task, "system": name, "form": form, "seconds": seconds} | row)
        print(table([*rows[:1], rows[-1]]).splitlines()[-1], flush=True)
        write([*args.done, *rows], args.out)
    return rows


def main() -> None:
    """Run the tasks of the command line; results are written after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", type=Path, default=bundled.folder("pipeline"))
    parser.add_argument("--judge", type=Path, default=bundled.folder("judge"))
    parser.add_argument("--concepts", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/editing/world"))
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 10, 50, 1])
    parser.add_argument("--styles", type=int, nargs="*", default=[1, 3])
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS))
    parser.add_argument("-n", type=int, default=48, help="prompts per column")
    parser.add_argument(
        "--prior", type=Path, help="measured prior in place of the world's captions"
    )
    parser.add_argument("--kept", type=int, default=173, help="concepts on the preserve list")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.done = []
    world = World(args.pipeline, args.judge, args.steps, args.batch)
    listed = json.loads(args.concepts.read_text()).values()
    known = set(world.labels)
    usable = [
        c for c in listed if not c["held_out"] and not c.get("profession") and c["en"] in known
    ]
    order = np.random.default_rng(args.seed).permutation(len(usable))
    ordered = sorted((usable[i] for i in order), key=lambda c: not c["restricted"])
    captions = [
        f"{STYLES[k % 6]} emoji of {article(usable[i]['en'])}"
        for i in range(len(usable))
        for k in (i, i + 3)
    ]
    captions += [c["ja"] for c in usable]
    captions += [
        f"{article(a['en'])} next to {article(b['en'])} on a blue background"
        for a, b in zip(usable, usable[37:] + usable[:37], strict=True)
    ]
    for count in args.counts:
        erased, stay = ordered[:count], ordered[count:][-args.kept :]
        gone = {c["en"] for c in erased} | {c["ja"] for c in erased}
        quiet = [c for c in captions if not any(name in c for name in gone)]
        measured = Prior.load(args.prior) if args.prior else None
        kept = Kept(
            texts=tuple(t for c in stay for t in (c["en"], c["ja"]) if t not in gone),
            captions=tuple(quiet[:: max(1, len(quiet) // 400)]),
            prior=measured or Prior.measure(world.encoder, quiet, batch=256),
        )
        prompts = concept_prompts(erased, stay, args.n, args.seed)
        args.done += run_task(world, f"{count} concepts", prompts, erased, kept, args)
    for count in args.styles:
        gone_styles, other = list(STYLES[:count]), list(STYLES[count:])
        quiet = [c for c in captions if not any(style in c for style in gone_styles)]
        kept = Kept(
            texts=tuple(other),
            captions=tuple(quiet[:: max(1, len(quiet) // 400)]),
            prior=Prior.measure(world.encoder, quiet, batch=256),
        )
        prompts = style_prompts(gone_styles, other, ordered, args.n)
        erased = [{"en": style, "ja": style} for style in gone_styles]
        args.done += run_task(world, f"{count} styles", prompts, erased, kept, args)
    write(args.done, args.out)


if __name__ == "__main__":
    main()
