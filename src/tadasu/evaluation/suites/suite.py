"""A suite: prompts, what is measured on each, and a hash of all of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from tadasu.errors import BadInput, UnknownName, shown
from tadasu.records import Json

#: What can be measured on a prompt. ``unsafe``: does the picture show anything restricted?
#: ``shows``: does it show everything that was asked? ``attributes``: whom does it show?
Property = Literal["unsafe", "shows", "attributes"]
PROPERTIES: tuple[Property, ...] = get_args(Property)
MAX_PROMPTS = 1_000_000
#: Left, top, right and bottom of a region, as shares of the picture's width and height.
Region = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of a suite.

    Args:
        id: unique in the suite; pictures of one prompt form one cluster.
        text: what the model is asked.
        seed: of its first picture; picture k is made from seed + k.
        guidance_scale: of classifier-free guidance, as the data set says; None says nothing.
        language: ``en``, ``ja``, …
        measures: what is measured on this prompt; empty for what the suite measures.
        categories: the hazards or concepts it belongs to; several are fine, as in I2P.
        shows: labels of everything a faithful and permitted picture shows; empty for nothing.

    Raises:
        BadInput: an empty text or id, or a number that no sampler takes.
    """

    id: str
    text: str
    seed: int = 0
    guidance_scale: float | None = None
    language: str = "en"
    measures: tuple[Property, ...] = ()
    categories: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no model can be asked."""
        if not self.id or not self.text.strip():
            raise BadInput(f"Prompt {shown(self.id)} needs an id and a text.")
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"Prompt {shown(self.id)}: the seed {self.seed} must be 0 to 2^63 - 1.")
        scale = self.guidance_scale
        if scale is not None and not (math.isfinite(scale) and 0 <= scale <= 1000):
            raise BadInput(f"Prompt {shown(self.id)}: guidance_scale {scale} must be 0 to 1000.")
        _check_measures(self.measures, f"Prompt {shown(self.id)}")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Prompts with the property that is measured on them.

    Args:
        id: its name in tables.
        prompts: in a fixed order.
        measures: what is measured where a prompt does not say otherwise.
        about: in a sentence, for reports.
        source: where the prompts come from, and their licence.
        regions: parts of a picture that judges look at one by one, where things are small; a
            concept counts as strongly as in its strongest region. Empty for the whole picture.
        aspect: width over height of the pictures that ``regions`` were set for; 0 for any.
        attributes: for ``attributes``, groups of labels of which a picture shows one each, such
            as ``{"gender": ("man", "woman")}``; equal shares are wanted.

    Raises:
        BadInput: no prompt, two prompts with one id, a region outside the picture, or
            ``attributes`` measured without groups of at least two labels.
    """

    id: str
    prompts: tuple[Prompt, ...]
    measures: tuple[Property, ...] = ("unsafe",)
    about: str = ""
    source: str = ""
    regions: tuple[Region, ...] = ()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    samples: int = 0
    aspect: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a suite on which nothing can be measured."""
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        if not self.id or len(self.prompts) > MAX_PROMPTS or self.samples < 0:
            raise BadInput(f"A suite needs a name and at most {MAX_PROMPTS:,} prompts.")
        if not self.prompts:
            raise BadInput(f"The suite {shown(self.id)} is empty; it needs at least one prompt.")
        counted = Counter(prompt.id for prompt in self.prompts)
        doubled = [name for name, count in counted.items() if count > 1]
        if doubled:
            raise BadInput(
                f"The suite {shown(self.id)} has {len(doubled):,} ids more than once, first "
                f"{shown(doubled[0])}; give every prompt its own id."
            )
        _check_measures(self.measures, f"The suite {shown(self.id)}")
        for left, top, right, bottom in self.regions:
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise BadInput(f"The suite {shown(self.id)} has a region outside the picture.")
        if not (math.isfinite(self.aspect) and self.aspect >= 0):
            raise BadInput(f"The suite {shown(self.id)}: aspect {self.aspect} must be 0 or more.")
        small = [group for group, labels in self.attributes.items() if len(labels) < 2]
        if small or ("attributes" in self.measures and not self.attributes):
            raise BadInput(
                f"The suite {shown(self.id)} measures attributes, so it needs groups of at least "
                "two labels each."
            )

    @property
    def hash(self) -> str:
        """SHA-256 over everything that changes what is measured, ``sha256:…``."""
        return digest({k: v for k, v in self.as_json().items() if k not in ("about", "source")})

    def measured_on(self, prompt: Prompt) -> tuple[Property, ...]:
        """What is measured on one prompt of this suite."""
        return prompt.measures or self.measures

    def check_shape(self, width: int, height: int) -> None:
        """Refuse pictures in which the regions would lie elsewhere.

        Args:
            width: of a picture, in pixels.
            height: likewise.

        Raises:
            BadInput: the picture's aspect differs from the suite's by more than a twentieth.

        >>> prompt = Prompt(id="0", text="a cat")
        >>> Suite(id="s", prompts=(prompt,), aspect=1.0).check_shape(64, 32)
        Traceback (most recent call last):
        ...
        tadasu.errors.BadInput: The suite 's' looks at parts of pictures whose width is 1 times ...
        """
        if self.aspect and abs(width / height / self.aspect - 1) > 0.05:
            raise BadInput(
                f"The suite {shown(self.id)} looks at parts of pictures whose width is "
                f"{self.aspect:g} times their height; given is one of {width} x {height}. "
                "Draw that shape, or take a suite for this one."
            )

    def take(self, n: int | None) -> Suite:
        """The same suite with n prompts, spread evenly over it; all of them for None.

        Raises:
            BadInput: n below 1.

        >>> suite = Suite(id="s", prompts=tuple(Prompt(id=str(i), text="a") for i in range(10)))
        >>> [prompt.id for prompt in suite.take(4).prompts]
        ['0', '2', '5', '7']
        """
        if n is not None and n < 1:
            raise BadInput(f"Take at least one prompt of a suite; given {n}.")
        total = len(self.prompts)
        if n is None or n >= total:
            return self
        chosen = tuple(self.prompts[i * total // n] for i in range(n))
        return dataclasses.replace(self, prompts=chosen, attributes=dict(self.attributes))

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``; `suites.document.from_json` reads it."""
        return {
            "id": self.id,
            "about": self.about,
            "source": self.source,
            "measures": list(self.measures),
            "samples": self.samples,
            "regions": [list(region) for region in self.regions],
            **({"aspect": self.aspect} if self.aspect else {}),
            "attributes": {group: list(labels) for group, labels in self.attributes.items()},
            "prompts": [_plain(prompt) for prompt in self.prompts],
        }


def digest(document: Json) -> str:
    """SHA-256 of a JSON document, whatever the order of its keys, ``sha256:…``."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _plain(prompt: Prompt) -> dict[str, Json]:
    """A prompt as JSON without the fields that say nothing."""
    given = {name: value for name, value in vars(prompt).items() if value not in ((), None)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


def _check_measures(measures: tuple[Property, ...], where: str) -> None:
    for name in measures:
        if name not in PROPERTIES:
            raise UnknownName(f"property ({where})", name, PROPERTIES)
