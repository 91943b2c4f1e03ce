"""Steps through the words or letters of names, and what is found at their ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tadasu.detectors.folding import Folded

How = Literal[
    "plain",
    "joined",
    "substituted",
    "spelled out",
    "cut",
    "masked",
    "misspelt",
    "reversed",
    "tag",
    "emoji",
    "form",
]
#: Signs that are read as letters.
SIGNS = "@$!|+€£"


@dataclass(frozen=True, kw_only=True)
class NameHit:
    """A name that stands in a text.

    Attributes:
        concept: id of the concept.
        name: the name as the concept has it.
        start: where it begins in the original text, in characters.
        end: where it ends, exclusive.
        how: plain, or how it was hidden.
    """

    concept: str
    name: str
    start: int
    end: int
    how: How


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a folded text, with its place there."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A name and its concept."""

    concept: str
    name: str


class Node:
    """A step in a trie over words or characters."""

    __slots__ = ("ends", "next")

    def __init__(self) -> None:
        self.next: dict[str, Node] = {}
        self.ends: list[Entry] = []

    def add(self, path: Iterable[str], entry: Entry) -> None:
        """An entry at the end of a path."""
        node = self
        for step in path:
            node = node.next.setdefault(step, Node())
        if entry not in node.ends:
            node.ends.append(entry)

    def steps(self) -> set[str]:
        """Every step that any path takes."""
        found, waiting = set(), [self]
        while waiting:
            node = waiting.pop()
            found |= set(node.next)
            waiting += node.next.values()
        return found


def hit_at(folded: Folded, entry: Entry, start: int, end: int, how: How) -> NameHit:
    """A hit at a span of the folded text, with its place in the original."""
    word = folded.text[start:end]
    start += len(word) - len(word.lstrip(SIGNS)) if how == "plain" else 0
    end -= len(word) - len(word.rstrip(SIGNS)) if how == "plain" else 0
    first, last = folded.back(start, end)
    return NameHit(concept=entry.concept, name=entry.name, start=first, end=last, how=how)


def inside(hit: NameHit, outer: NameHit) -> bool:
    """Whether a hit lies inside another of the same concept."""
    same = hit.concept == outer.concept
    return same and outer.start <= hit.start and hit.end <= outer.end


def longest(hits: Iterable[NameHit]) -> list[NameHit]:
    """Without those that lie inside another hit of the same concept; one a span."""
    order = sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.concept, hit.how != "plain"))
    kept: list[NameHit] = []
    reach: dict[str, int] = {}
    for hit in order:
        if hit.end > reach.get(hit.concept, -1):
            kept.append(hit)
            reach[hit.concept] = hit.end
    return kept
