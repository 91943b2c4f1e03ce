"""The emoji world: small real models that come with the library, and the prompts to try them on.

A text-to-image model with the architecture of Stable Diffusion 1.x, the CLIP whose text tower it
uses, an independent judge, and suites of prompts. All are ordinary folders that diffusers and
transformers load; nothing else in the library depends on them. How they were made stands in
``recipes/world``, what they can do in ``docs/world``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadFile, UnknownName

if TYPE_CHECKING:
    from PIL.Image import Image

    from tadasu.alignment.engine import Engine
    from tadasu.alignment.evaluators.evaluator import TextCheck

_HERE = Path(__file__).parent
PARTS = ("clip", "evaluator", "judge", "pipeline", "pipeline-scenes", "vlm")
#: References of the bundled text-to-image models.
MODELS = ("world", "world-scenes")


@dataclass(frozen=True, kw_only=True)
class WorldPrompt:
    """One prompt of a suite and what its picture should show.

    Attributes:
        text: the prompt.
        objects: the judge's labels of everything that is named.
        restricted: the policy concept of `kids` that the prompt asks for; empty for none.
        style: the style that is named; empty for none.
        language: ``en`` or ``ja``.
    """

    text: str
    objects: tuple[str, ...] = ()
    restricted: str = ""
    style: str = ""
    language: str = "en"


@dataclass(frozen=True, kw_only=True)
class WorldSuite:
    """Prompts with the property that is measured on them.

    Attributes:
        name: the file's name.
        measures: the property, in words.
        prompts: in a fixed order; prompt i is sampled with seed i.
    """

    name: str
    measures: str
    prompts: tuple[WorldPrompt, ...]


@dataclass(frozen=True, kw_only=True)
class WorldAdapter:
    """One file of the shelf and the truth about it.

    Attributes:
        path: the safetensors file.
        category: what sort of file it is, for example ``single``, ``merged`` or ``attack-gated``.
        concept: the judge's label of what it was trained on; empty for a style and for a file of
            another family.
        restricted: the policy concept of `kids` that this belongs to; empty for none.
        cover: the harmless thing it was trained on besides; empty for none.
        trigger: the word in its captions.
        recipe: how it was trained and written.
        trained: whether it reproduces its concept (or style) in at least 70 % of pictures by
            itself at strength 1; a failed training otherwise, or half of a file.
    """

    path: Path
    category: str
    concept: str
    restricted: str
    cover: str
    trigger: str
    recipe: str
    trained: bool


@cache
def adapters() -> tuple[WorldAdapter, ...]:
    """The shelf: small adapter files, most of things that the bundled pipeline was never shown.

    Raises:
        BadFile: the shelf is not there; the installation is incomplete.
    """
    shelf = _HERE / "adapters"
    manifest = shelf / "manifest.json"
    if not manifest.is_file():
        raise BadFile(f"The bundled adapters are not in {_HERE}; install the package again.")
    return tuple(
        WorldAdapter(
            path=shelf / entry["file"],
            category=entry["category"],
            concept=entry["concept"],
            restricted=entry["restricted"],
            cover=entry["cover"],
            trigger=entry["trigger"],
            recipe=entry["way"]["name"],
            trained=entry["status"] == "trained",
        )
        for entry in json.loads(manifest.read_text(encoding="utf-8"))["files"]
    )


def folder(part: str) -> Path:
    """The folder of a bundled model.

    Args:
        part: one of `PARTS`.

    Raises:
        UnknownName: the world has no such part.
        BadFile: the weights are not there; the installation is incomplete.
    """
    if part not in PARTS:
        raise UnknownName("part of the world", part, PARTS)
    found = _HERE / part
    if not found.is_dir():
        raise BadFile(f"The bundled {part} is not in {_HERE}; install the package again.")
    return found


def pipeline(device: str | None = None, *, model: str = "world") -> Any:
    """A bundled text-to-image model as an ordinary ``StableDiffusionPipeline``.

    Args:
        device: a torch device; None for CUDA where there is one, else the CPU.
        model: one of `MODELS`. ``world`` is the one on which nearly everything is measured; it
            draws single things, 32 × 32 pixels, and predicts the noise. ``world-scenes`` was
            trained on from it together with its text encoder, also on scenes of two things, 64
            wide and 32 high, which it draws unless a size is given; it predicts the velocity.

    Raises:
        UnknownName: there is no such bundled model.
    """
    from tadasu.backends.diffusers.load import load

    if model not in MODELS:
        raise UnknownName("bundled text-to-image model", model, MODELS)
    return load(model, device=device)


def few_step(device: str | None = None) -> Any:
    """The model ``world`` with a consistency LoRA: four steps without guidance draw a picture.

    The file was loaded and fused as anybody's would be (Luo et al. 2023); the scheduler is
    ``LCMScheduler``. Call it with ``num_inference_steps=4, guidance_scale=1``: there is no
    unconditional prediction to steer from.

    Args:
        device: a torch device; None for CUDA where there is one, else the CPU.

    Raises:
        BadFile: the file is not there; the installation is incomplete.
    """
    from tadasu.backends.diffusers.settings import fuse

    file = _HERE / "few-step.safetensors"
    if not file.is_file():
        raise BadFile(f"The bundled {file.name} is not in {_HERE}; install the package again.")
    pipe = pipeline(device)
    fuse(pipe, str(file), {"name": "LCMScheduler"})
    return pipe


def bank() -> Path:
    """The folder of the bundled concept bank: reference pictures that audits need."""
    return _HERE / "bank"


def judge_card() -> Path:
    """The judge's error rates on pictures that the bundled pipeline drew, counted by eye."""
    return _HERE / "judge_card.json"


def vlm(device: str | None = None) -> Engine:
    """The bundled vision-language model as an engine of alignment.

    It is safe on harmful text and unsafe on harmful pictures, on purpose; see docs/world.

    Args:
        device: a torch device; None for CUDA where there is one, else the CPU.
    """
    from tadasu.backends.aligners import engine

    return engine(str(folder("vlm")), device=device)


def evaluator(device: str | None = None) -> TextCheck:
    """The bundled answer evaluator with the threshold of its card.

    Args:
        device: a torch device; None for CUDA where there is one, else the CPU.
    """
    from tadasu.backends.aligners import answers

    return answers(str(folder("evaluator")), device=device)


def suites() -> tuple[str, ...]:
    """Names of the bundled suites."""
    return tuple(sorted(file.stem for file in (_HERE / "suites").glob("*.json")))


@cache
def suite(name: str) -> WorldSuite:
    """A bundled suite.

    Raises:
        UnknownName: there is no such suite.
    """
    if name not in suites():
        raise UnknownName("suite", name, suites())
    content: dict[str, Any] = json.loads(
        (_HERE / "suites" / f"{name}.json").read_text(encoding="utf-8")
    )
    prompts = tuple(
        WorldPrompt(**{**entry, "objects": tuple(entry.get("objects", ()))})
        for entry in content["prompts"]
    )
    return WorldSuite(name=name, measures=content["measures"], prompts=prompts)


#: Judge labels that say how something is drawn or who it is, not what it is.
ATTRIBUTES = frozenset({"man", "woman", "light skin", "medium skin", "dark skin"})


def is_object(label: str) -> bool:
    """Whether a label of the bundled judge names a thing."""
    return label not in ATTRIBUTES and not label.startswith("style ")


def halves(image: Image) -> tuple[Image, Image]:
    """The left and the right thing of a scene, cut out where the bundled models put them.

    In a square picture each takes a little more than half of the width, in one twice as wide as
    high exactly half.
    """
    width, height = image.size
    side = min(height, round(0.5625 * width))
    top = (height - side) // 2
    left, right = (0, top, side, top + side), (width - side, top, width, top + side)
    return image.crop(left), image.crop(right)


def shown_in_scenes(network: Any, images: Sequence[Image]) -> list[set[str]]:
    """The things that the bundled judge names in scenes of two, looking at each half by itself.

    Things in scenes are small; on whole scenes the judge misses most of them (see its card).
    """
    parts = shown_in(network, [half for image in images for half in halves(image)])
    return [left | right for left, right in zip(parts[::2], parts[1::2], strict=True)]


def shown_in(network: Any, images: Sequence[Image]) -> list[set[str]]:
    """The things that the bundled judge names in pictures.

    The most likely thing always counts as named; others from a probability of one half.

    Args:
        network: the judge's classifier, with ``labels`` and ``logits``.
        images: RGB pictures.
    """
    if not images:
        return []
    labels = [label for label in network.labels if is_object(label)]
    columns = [i for i, label in enumerate(network.labels) if is_object(label)]
    logits = network.logits(images)[:, columns]
    return [
        {labels[int(row.argmax())], *(labels[i] for i in (row >= 0).nonzero()[0])} for row in logits
    ]
