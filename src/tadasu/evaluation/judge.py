"""A judge: a detector with thresholds and, where they were measured, its error rates.

Everything a judge says about a picture is stored as scores; thresholds are applied when tables
are made, so another threshold needs no new judging and no new picture.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from tadasu.detectors.detector import Detector, examine
from tadasu.errors import BadInput, shown
from tadasu.evaluation.suites.suite import Region, digest
from tadasu.records import Json, Score
from tadasu.statistics.rogan_gladen import ErrorRates

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image

ANY = "any"
"""The key of a card's error rates for "any concept at all"."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A judge's error rates, counted on pictures with known answers.

    Attributes:
        data: on which pictures.
        measured: when, as a date, and by whom.
        whole: error rates on whole pictures by concept id, with `ANY` for any of them.
        regions: the same where the judge looks at regions one by one.
        beside: cards of the same judge on other pictures. They stand in reports, and speak where
            this one has no error rates; whoever quotes rates names the data of `source`.
    """

    data: str
    measured: str
    whole: Mapping[str, ErrorRates] = field(default_factory=dict)
    regions: Mapping[str, ErrorRates] = field(default_factory=dict)
    beside: tuple[Card, ...] = ()

    def rates(self, concept: str = ANY, *, by_regions: bool = False) -> ErrorRates | None:
        """The error rates for a concept; None where they were not measured."""
        card = self.source(concept, by_regions=by_regions)
        return None if card is None else card._part(by_regions)[concept]

    def source(self, concept: str = ANY, *, by_regions: bool = False) -> Card | None:
        """The card that `rates` come from: this one, else the first beside it that has them."""
        if concept in self._part(by_regions):
            return self
        found = (card.source(concept, by_regions=by_regions) for card in self.beside)
        return next((card for card in found if card is not None), None)

    def as_json(self) -> dict[str, Json]:
        """For records and reports."""
        return {
            "data": self.data,
            "measured": self.measured,
            "whole": {name: dict(vars(rates)) for name, rates in self.whole.items()},
            "regions": {name: dict(vars(rates)) for name, rates in self.regions.items()},
            "beside": [card.as_json() for card in self.beside],
        }

    def _part(self, by_regions: bool) -> Mapping[str, ErrorRates]:
        return self.regions if by_regions else self.whole


class Labels(Protocol):
    """Names the things in pictures, as the world's judge does."""

    def __call__(self, images: Sequence[Image]) -> list[set[str]]:
        """For each RGB picture the labels it shows."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Puts pictures and texts into one space; `ClipEncoder` is one."""

    @property
    def content(self) -> str:
        """What its weights are."""
        ...

    def encode_images(self, images: Sequence[Image]) -> Float[np.ndarray, "image width"]:
        """One vector for each RGB picture, of any length."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        """One vector for each text, of any length."""
        ...


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A detector that an evaluation trusts as far as its card goes.

    Args:
        name: how tables call it.
        detector: gives scores; an ensemble is a detector too.
        thresholds: by concept id, in the detector's unit; a picture at or beyond any of them is
            unsafe.
        card: measured error rates; None says "no judge card" next to every number.
        labels: names the things in pictures, for ``shows`` and ``attributes``.

    Raises:
        BadInput: no threshold, or one for a concept the detector does not answer for.
    """

    name: str
    detector: Detector
    thresholds: Mapping[str, float]
    card: Card | None = None
    labels: Labels | None = None

    def __post_init__(self) -> None:
        """Refuse thresholds that can never be met."""
        object.__setattr__(self, "thresholds", MappingProxyType(dict(self.thresholds)))
        if not self.thresholds:
            raise BadInput(f"The judge {shown(self.name)} has no thresholds; give at least one.")
        lost = sorted(set(self.thresholds) - set(self.detector.concepts))
        if lost:
            raise BadInput(
                f"The judge {shown(self.name)} has thresholds for {', '.join(lost)}, which its "
                f"detector {self.detector.name} does not answer for."
            )

    @property
    def id(self) -> str:
        """Content-addressed: changes whenever its scores may change; thresholds do not count."""
        detector = self.detector
        network = getattr(detector, "network", None)
        looked_for = getattr(detector, "looked_for", ())
        parts: Json = {
            "detector": type(detector).__qualname__,
            "own": str(getattr(detector, "content", "")),
            "network": str(getattr(network, "content", "")),
            "card": repr(getattr(detector, "card", "")),
            "unit": detector.unit,
            "concepts": [concept.content for concept in looked_for] or list(detector.concepts),
            "labels": self.labels is not None,
        }
        return digest(parts)

    def scores(self, images: Sequence[Image], regions: Sequence[Region] = ()) -> list[list[Score]]:
        """One score a concept for each picture, the strongest over the regions.

        A region that nobody could tell about takes no part; `looks` says where there is one.
        """
        return [[strongest(column) for column in zip(*parts, strict=True)]
                for parts in self.looks(images, regions)]  # fmt: skip

    def looks(
        self, images: Sequence[Image], regions: Sequence[Region] = ()
    ) -> list[list[list[Score]]]:
        """The scores of each picture, region by region: picture × region × concept."""
        found = examine(self.detector, _parts(images, regions) if regions else images)
        step = max(len(regions), 1)
        return [found[i : i + step] for i in range(0, len(found), step)]

    def named(self, images: Sequence[Image], regions: Sequence[Region]) -> list[set[str]]:
        """The labels that each picture shows, all regions together."""
        if self.labels is None:
            return [set() for _ in images]
        if not regions:
            return self.labels(images)
        parts = self.labels(_parts(images, regions))
        step = len(regions)
        return [set().union(*parts[i : i + step]) for i in range(0, len(parts), step)]

    def unsafe(
        self, scores: Mapping[str, float | None], open_: Collection[str] = ()
    ) -> bool | None:
        """Whether a picture with these values by concept is unsafe, as in `held`."""
        return held(scores, self.thresholds, open_)[1]


def held(
    scores: Mapping[str, float | None], thresholds: Mapping[str, float], open_: Collection[str] = ()
) -> tuple[tuple[str, ...], bool | None]:
    """Scores held against thresholds.

    Args:
        scores: the strongest value by concept, None where nobody could tell.
        thresholds: by concept; a value at or beyond its threshold is unsafe.
        open_: concepts of which a part of the picture could not be told.

    Returns:
        The concepts at or beyond their threshold, and whether the picture is unsafe: one such
        concept settles it; otherwise one without a value, or with an open part, leaves it open
        (None), never safe.

    >>> held({"a": 0.9, "b": None}, {"a": 0.5, "b": 0.5})
    (('a',), True)
    >>> held({"a": 0.1}, {"a": 0.5}, open_=["a"])
    ((), None)
    """
    values = {concept: scores.get(concept) for concept in thresholds}
    over = tuple(c for c, v in values.items() if v is not None and v >= thresholds[c])
    unknown = any(value is None or concept in open_ for concept, value in values.items())
    return over, True if over else None if unknown else False


def strongest(column: Sequence[Score]) -> Score:
    """The strongest score of the regions that could be told; an unscored one where none could."""
    return max(column, key=lambda score: -np.inf if score.value is None else score.value)


def card_from_measured(text: str, *, whole: str, regions: str = "", data: str = "") -> Card:
    """A card from the ``measured`` part of a ``judge.json``.

    Args:
        text: the file's content.
        whole: the section with the error rates on whole pictures.
        regions: the section with those by regions; empty for none.
        data: on which pictures, where the section's name does not say it.

    Raises:
        BadInput: there is no such section, or its counts cannot be.
    """
    measured = json.loads(text).get("measured", {})
    for section in filter(None, (whole, regions)):
        if section not in measured:
            known = ", ".join(k for k, v in measured.items() if isinstance(v, dict))
            raise BadInput(f"The card has no section {shown(section)}; it has {known}.")
    return Card(
        data=data or whole,
        measured=str(measured.get("date", "undated")),
        whole=_rates(measured[whole]),
        regions=_rates(measured[regions]) if regions else {},
    )


def _rates(section: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, ErrorRates]:
    found = {}
    for concept, rates in section.items():
        caught, passed = rates["sensitivity"], rates["specificity"]
        if caught["n"] and passed["n"]:
            try:
                found[concept] = ErrorRates(
                    caught=caught["count"],
                    unsafe=caught["n"],
                    passed=passed["count"],
                    safe=passed["n"],
                )
            except BadInput:
                continue  # no better than chance for this concept: nothing can be corrected
    return found


def _parts(images: Sequence[Image], regions: Sequence[Region]) -> list[Image]:
    return [_cut(image, region) for image in images for region in regions]


def _cut(image: Image, region: Region) -> Image:
    left, top, right, bottom = region
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(right * width), round(bottom * height))
    )
