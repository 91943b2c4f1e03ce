"""What an edit is asked to do, in words: erase, replace, moderate, debias.

A target names a concept in all its languages at once; the solver sees one row per name, template
and token. Nothing here knows numbers of any model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tadasu.errors import BadInput, shown


class Named(Protocol):
    """What a vocabulary concept offers here (``tadasu.concepts.Concept`` does)."""

    @property
    def id(self) -> str:
        """The concept's identifier."""
        ...

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Names per language."""
        ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """One concept and what its texts shall mean afterwards.

    Args:
        concept: identifier, used in reports.
        texts: every name of the concept, in every language.
        anchor: text whose meaning takes the concept's place; ``""`` is the empty prompt, None is
            the mean of the preserved texts (the smallest change that removes the concept).
        attributes: for debiasing, how much of each attribute is added; negative takes away. A form
            such as ``woman {}`` is a fraction of the way to the concept in that form (1 is the
            whole way); a plain word is a fraction of the concept row's own length.
        weight: how much this concept counts against the others; 1 is the usual.
        strength: how much of the way its rows go, above 0; 1 is the whole way.
    """

    concept: str
    texts: tuple[str, ...]
    anchor: str | None = ""
    attributes: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Refuse targets that say nothing or contradict themselves."""
        if not self.texts or not all(text.strip() for text in self.texts):
            raise BadInput(
                f"Concept {shown(self.concept)} has an empty name. "
                "An edit needs at least one word to act on."
            )
        if not self.attributes and self.anchor and plain(self.anchor) in map(plain, self.texts):
            raise BadInput(
                f"Concept {shown(self.concept)} would be replaced by itself. "
                "Give another anchor, or leave it out for the empty prompt."
            )
        if not self.weight > 0:
            raise BadInput(f"Weight of {shown(self.concept)} must be above 0; given {self.weight}.")
        if not 0 < self.strength <= 1:
            raise BadInput(
                f"Strength of {shown(self.concept)} is above 0 and at most 1; "
                f"given {self.strength}."
            )


def erase(concepts: Iterable[str | Named], anchor: str | None = "") -> tuple[Target, ...]:
    """Each concept shall mean the anchor, by default nothing.

    >>> [target.texts for target in erase(["pistol", "bomb"])]
    [('pistol',), ('bomb',)]
    """
    return _distinct(Target(concept=_id(c), texts=texts_of(c), anchor=anchor) for c in concepts)


def replace(pairs: Mapping[str, str]) -> tuple[Target, ...]:
    """Each key shall mean its value.

    >>> replace({"pistol": "banana"})[0].anchor
    'banana'
    """
    for concept, anchor in pairs.items():
        if not anchor.strip():
            raise BadInput(f"Nothing was given to replace {shown(concept)} with; use erase.")
    return _distinct(Target(concept=c, texts=(c,), anchor=a) for c, a in pairs.items())


def moderate(concepts: Iterable[Named], hazard: str) -> tuple[Target, ...]:
    """Every concept of one hazard shall mean nothing.

    Args:
        concepts: the vocabulary, for example a policy's concepts.
        hazard: the hazard whose concepts are taken.

    Raises:
        BadInput: when no concept has this hazard.
    """
    listed = list(concepts)
    chosen = [c for c in listed if getattr(c, "hazard", None) == hazard]
    if not chosen:
        known = sorted({str(getattr(c, "hazard", "")) for c in listed} - {""})
        raise BadInput(f"No concept of hazard {shown(hazard)}. Hazards here: {', '.join(known)}.")
    return erase(chosen)


def debias(amounts: Mapping[str, Mapping[str, float]]) -> tuple[Target, ...]:
    """Each concept keeps its meaning and gains or loses some of each attribute.

    >>> debias({"doctor": {"woman": 0.2, "man": -0.2}})[0].attributes
    {'woman': 0.2, 'man': -0.2}
    """
    for concept, attributes in amounts.items():
        if not attributes:
            raise BadInput(f"No attribute was given for {shown(concept)}.")
    return _distinct(Target(concept=c, texts=(c,), attributes=dict(a)) for c, a in amounts.items())


def texts_of(concept: str | Named) -> tuple[str, ...]:
    """Every name of a concept, each once, first language first."""
    if isinstance(concept, str):
        return (concept,)
    listed = [name for names in concept.names.values() for name in names]
    return tuple(dict.fromkeys(listed))


def plain(text: str) -> str:
    """A text as it is compared for conflicts.

    >>> plain("  Ｐistol ")
    'pistol'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def check_conflicts(targets: Sequence[Target], preserve: Sequence[str]) -> None:
    """Refuse to both change and preserve one text, and to send one text to two places.

    Raises:
        BadInput: naming the concepts that contradict each other.
    """
    if not targets:
        raise BadInput("An edit needs at least one concept.")
    kept = {plain(text) for text in preserve}
    seen: dict[str, Target] = {}
    for target in targets:
        for text in map(plain, target.texts):
            if text in kept:
                raise BadInput(
                    f"Conflict: {shown(text)} (concept {shown(target.concept)}) is to be changed "
                    "and is also on the preserve list. Take it off one of them."
                )
            other = seen.setdefault(text, target)
            if (other.anchor, other.attributes) != (target.anchor, target.attributes):
                raise BadInput(
                    f"Conflict: {shown(text)} is sent to two places, by concepts "
                    f"{shown(other.concept)} and {shown(target.concept)}."
                )


def _id(concept: str | Named) -> str:
    return concept if isinstance(concept, str) else concept.id


def _distinct(targets: Iterable[Target]) -> tuple[Target, ...]:
    listed = tuple(targets)
    if not listed:
        raise BadInput("An edit needs at least one concept.")
    names = [target.concept for target in listed]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"Given more than once: {', '.join(map(shown, twice))}.")
    return listed
