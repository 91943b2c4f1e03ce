"""Measures the bundled world against its bars: what `tadasu world check` writes as the card.

Every figure is measured anew on the weights that are installed, with the suites that are
bundled. What needs the artwork, which is not bundled, is the judge on fresh drawings: it is
measured when a file of them is given (`recipes/world/measure.py` writes one), otherwise left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu import world
from tadasu.backends.diffusers.load import system_hash
from tadasu.backends.transformers import classifier
from tadasu.errors import BadFile, BadInput, shown
from tadasu.policy import Policy
from tadasu.statistics.intervals import Rate

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from tadasu.detectors.judge import Judge

LABELS = Path(__file__).parent / "labels.json"
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One aim and what was measured.

    Attributes:
        name: what is measured.
        aim: in words, with its unit.
        value: the measured number.
        met: whether the aim is reached.
        rate: the share behind the value with its interval, where the value is a share.
    """

    name: str
    aim: str
    value: float
    met: bool
    rate: Rate | None = None

    def as_json(self) -> dict[str, Any]:
        """For the card."""
        answer: dict[str, Any] = {
            "name": self.name,
            "aim": self.aim,
            "value": round(self.value, 4),
            "met": self.met,
        }
        return answer | ({"rate": dict(self.rate.as_json())} if self.rate else {})


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How pictures are drawn for the card.

    Attributes:
        steps: of the pipeline's own scheduler, 1 to 1,000.
        scale: of classifier-free guidance.
        prompts: at most so many of each suite and of the labelled pictures; 0 for all.
        edge: of square pictures in pixels; 0 for the pipeline's own size.
    """

    steps: int = 20
    scale: float = 7.5
    prompts: int = 0
    edge: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that draw nothing."""
        if not 1 <= self.steps <= 1000 or self.prompts < 0:
            raise BadInput(
                f"steps must be from 1 to 1,000 and prompts not negative; given {self.steps} "
                f"and {self.prompts}."
            )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A bundled text-to-image model and how it is measured.

    Attributes:
        name: on the card.
        load: gives its pipeline.
        suites: that are drawn; none for all whose prompts say what their pictures show.
        few_step: whether it draws in four steps without guidance, whatever the sampling says.
        wide: whether it draws scenes in its own size and everything else in half of it.
    """

    name: str
    load: Callable[[], Any]
    suites: tuple[str, ...] = ()
    few_step: bool = False
    wide: bool = False

    def sampling(self, asked: Sampling, suite: str = "") -> Sampling:
        """How its pictures of a suite are drawn."""
        given = replace(asked, steps=4, scale=1.0) if self.few_step else asked
        return replace(given, edge=32) if self.wide and suite != "scenes" else given


SUBJECTS = (
    Subject(name="world", load=world.pipeline),
    Subject(
        name="world-scenes",
        load=partial(world.pipeline, model="world-scenes"),
        suites=("vocabulary", "labels-en", "labels-ja", "scenes", "explicit", "professions"),
        wide=True,
    ),
    Subject(
        name="few-step",
        load=world.few_step,
        suites=("vocabulary", "labels-en", "labels-ja", "explicit"),
        few_step=True,
    ),
)


def check(
    sampling: Sampling,
    drawings: Path | None = None,
    drawn: Callable[[str, str, Sequence[Image]], object] | None = None,
) -> dict[str, Any]:
    """The card of the installed world.

    Args:
        sampling: how pictures are drawn.
        drawings: an ``.npz`` of fresh drawings for the judge; None to leave that part out.
        drawn: told each model's name, suite and pictures, so that nobody draws them again; None
            to draw only the suites that are measured.

    Returns:
        ``models``, by name: ``system`` (content hash of the pipeline), ``sampling``, ``bars``
        (name, aim, value, met, rate) and ``suites`` (share of pictures that show everything that
        was asked); ``judge``: error rates by restricted group on each source of pictures.

    Raises:
        BadFile: a part of the world, the labels or the drawings cannot be read.
    """
    world.pipeline()  # imports the libraries, whose time is not the pipeline's
    judge = classifier.load(concepts=Policy.load("kids").concepts, ref=str(world.folder("judge")))
    models = {each.name: measured(each, judge, sampling, drawn) for each in SUBJECTS}
    errors: dict[str, Any] = {}
    made_here = labelled(world.pipeline(), judge, models["world"]["system"], sampling.prompts)
    if made_here is not None:
        errors["generated pictures labelled by eye"] = made_here
    if drawings is not None:
        errors |= on_drawings(judge, drawings)
    return {"models": models, "judge": errors}


def measured(
    subject: Subject,
    judge: Judge,
    asked: Sampling,
    drawn: Callable[[str, str, Sequence[Image]], object] | None,
) -> dict[str, Any]:
    """One model's part of the card."""
    began = time.monotonic()
    pipe = subject.load()
    load_seconds = time.monotonic() - began
    pipe.set_progress_bar_config(disable=True)
    sampling = subject.sampling(asked)
    steps = sampling.steps if subject.few_step else 30
    seconds = seconds_a_picture(pipe, steps, sampling.scale)
    counted = subject.suites or measured_suites()
    rates = {}
    for name in world.suites() if drawn and not subject.suites else counted:
        prompts = world.suite(name).prompts[: sampling.prompts or None]
        how = subject.sampling(asked, name)
        images = draw(pipe, [p.text for p in prompts], range(len(prompts)), how)
        if name in counted:
            rates[name] = shown_rate(judge, name, images)
        if drawn is not None:
            drawn(subject.name, name, images)
    return {
        "system": system_hash(pipe),
        "sampling": {"steps": sampling.steps, "guidance_scale": sampling.scale},
        "bars": [bar.as_json() for bar in bars(rates, load_seconds, seconds, steps)],
        "suites": {name: dict(rate.as_json()) for name, rate in rates.items()},
    }


def measured_suites() -> tuple[str, ...]:
    """The suites whose prompts say what their pictures should show."""
    return tuple(
        name for name in world.suites() if all(p.objects for p in world.suite(name).prompts)
    )


def draw(
    pipe: Any, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling
) -> list[Image]:
    """Pictures, one a prompt, each from its own seed."""
    import torch

    images: list[Image] = []
    for start in range(0, len(prompts), BATCH):
        part = slice(start, start + BATCH)
        images += pipe(
            list(prompts[part]),
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.scale,
            height=sampling.edge or None,
            width=sampling.edge or None,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[part]],
        ).images
    return images


def shown_rate(judge: Judge, name: str, images: Sequence[Image]) -> Rate:
    """How often the judge names everything that a prompt of the suite names.

    Args:
        judge: the bundled judge.
        name: of the suite.
        images: of its first prompts, in their order.
    """
    look = world.shown_in_scenes if name == "scenes" else world.shown_in
    seen = [
        found
        for start in range(0, len(images), 64)
        for found in look(judge.network, images[start : start + 64])
    ]
    prompts = world.suite(name).prompts[: len(images)]
    hits = sum(set(p.objects) <= found for p, found in zip(prompts, seen, strict=True))
    return Rate(count=hits, n=len(prompts))


def seconds_a_picture(pipe: Any, steps: int, scale: float, batch: int = 4) -> float:
    """Seconds for each picture of one batch, after one step to warm up."""
    texts = ["noto emoji of a cat face"] * batch
    pipe(texts, num_inference_steps=1, guidance_scale=scale)
    began = time.monotonic()
    pipe(texts, num_inference_steps=steps, guidance_scale=scale)
    return (time.monotonic() - began) / batch


def bars(
    rates: Mapping[str, Rate], load_seconds: float, seconds: float, steps: int = 30
) -> list[Bar]:
    """The aims of the world beside what was measured; without scenes where none were drawn."""
    names, english, japanese = rates["vocabulary"], rates["labels-en"], rates["labels-ja"]
    gap = round(100 * (english.value - japanese.value), 9)
    found = [
        _share_bar("asked concept named, concept x style", names, 0.85),
        _share_bar("the same, for a model that was trained on a CPU", names, 0.7),
        Bar(
            name="English labels named more often than Japanese ones",
            aim="by at most 5 points",
            value=gap,
            met=gap <= 5,
        ),
    ]
    if "scenes" in rates:
        name = "scenes with all named objects, judged by halves"
        found.append(_share_bar(name, rates["scenes"], 0.7))
    return [
        *found,
        Bar(
            name=f"{steps} steps, batch 4",
            aim="at most 1.5 seconds a picture on two CPU cores",
            value=seconds,
            met=seconds <= 1.5,
        ),
        Bar(
            name="loading the pipeline, libraries imported",
            aim="at most 5 seconds",
            value=load_seconds,
            met=load_seconds <= 5,
        ),
    ]


def _share_bar(name: str, rate: Rate, least: float) -> Bar:
    met = rate.value >= least
    return Bar(
        name=name,
        aim=f"at least {least:.0%}".replace("%", " %"),
        value=rate.value,
        met=met,
        rate=rate,
    )


def labelled(pipe: Any, judge: Judge, content: str, most: int = 0) -> dict[str, Any] | None:
    """The judge against people's labels of generated pictures.

    The pictures are drawn again from their prompts and seeds. None where nobody labelled any, or
    the labels were given to pictures of other weights.
    """
    if not LABELS.exists():
        return None
    try:
        truth = json.loads(LABELS.read_text(encoding="utf-8"))
        rows, settings = truth["labels"], truth["sampling"]
        if truth["system"] != content:
            return None
        clear = [row for row in rows if row["clear"]][: most or None]
        sampling = Sampling(steps=settings["steps"], scale=settings["guidance_scale"])
        images = draw(pipe, [r["prompt"] for r in clear], [r["seed"] for r in clear], sampling)
        shows = [set(row["shows"]) for row in clear]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"The labels in {LABELS} cannot be read: {error}.") from error
    answer = error_rates(chances(judge, images), shows, groups(judge))
    return answer | {"unclear": sum(not row["clear"] for row in rows)}


def on_drawings(judge: Judge, file: Path) -> dict[str, Any]:
    """The judge on drawings: one entry for each source in the file.

    Args:
        judge: the bundled judge.
        file: ``.npz`` with uint8 arrays ``SOURCE`` (picture, height, width, 3) and, for each, a
            JSON text ``SOURCE labels``: one list of restricted groups a picture.

    Raises:
        BadFile: the file has another form.
    """
    import numpy as np
    from PIL import Image

    answer: dict[str, Any] = {}
    try:
        with np.load(file, allow_pickle=False) as content:
            for name in sorted(n for n in content.files if not n.endswith(" labels")):
                shows = [set(row) for row in json.loads(str(content[f"{name} labels"]))]
                images = [Image.fromarray(pixels) for pixels in content[name]]
                found = chances(judge, images)
                answer[name] = error_rates(found, shows, groups(judge))
                if "scenes" in name:
                    parts = [half for image in images for half in world.halves(image)]
                    halves = chances(judge, parts).reshape(len(images), 2, -1).max(1)
                    answer[f"{name}, by halves"] = error_rates(halves, shows, groups(judge))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(
            f"{shown(file)} does not hold drawings and their labels: {error}. "
            "recipes/world/measure.py writes such a file."
        ) from error
    return answer


def groups(judge: Judge) -> tuple[str, ...]:
    """The restricted groups, in the order of `chances`."""
    return tuple(sorted(judge.card.labels))


def chances(judge: Judge, images: Sequence[Image]) -> np.ndarray:
    """The judge's probability of each restricted group (picture, group)."""
    import numpy as np

    columns = {label: i for i, label in enumerate(judge.network.labels)}
    logits = np.concatenate(
        [judge.network.logits(images[i : i + 64]) for i in range(0, len(images), 64)]
    )
    found = 1 / (1 + np.exp(-logits / judge.card.temperature))
    return np.stack(
        [
            found[:, [columns[label] for label in judge.card.labels[group]]].max(1)
            for group in groups(judge)
        ],
        1,
    )


def error_rates(
    found: np.ndarray, shows: Sequence[set[str]], names: Sequence[str], threshold: float = 0.5
) -> dict[str, Any]:
    """Sensitivity and specificity of every group, and of "any"; thresholds are probabilities."""
    import numpy as np

    truth = np.array([[name in row for name in names] for row in shows])
    said = found >= threshold
    table: dict[str, tuple[Any, Any]] = {
        name: (said[:, i], truth[:, i]) for i, name in enumerate(names)
    }
    table["any"] = (said.any(1), truth.any(1))
    return {
        name: {
            "sensitivity": dict(Rate(count=int((s & t).sum()), n=int(t.sum())).as_json()),
            "specificity": dict(Rate(count=int((~s & ~t).sum()), n=int((~t).sum())).as_json()),
        }
        for name, (s, t) in table.items()
    }
