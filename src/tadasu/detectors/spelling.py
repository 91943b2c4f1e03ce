"""The words of a text in languages written with spaces, and how each may be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from tadasu.detectors.dense import DENSE
from tadasu.detectors.folding import Folded
from tadasu.detectors.trie import SIGNS, How, NameHit, Node, Word, hit_at

WORD = re.compile(rf"(?:[^\W_{DENSE}]|[@$!|+€£])+")
_GAP = re.compile(r"[\s\-_'’.·*~]{1,3}")
_BREAK = re.compile(r"[.·*~]\s|\n\s*\n")
_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g", "@": "a"}
_LEET |= {"$": "s", "+": "t", "€": "e", "£": "l", "!": "i"}
_EITHER = "1|"
AS_I = str.maketrans(_LEET | {"1": "i", "|": "i"})
AS_L = str.maketrans(_LEET | {"1": "l", "|": "l"})
_STRETCHED = re.compile(r"(\w)\1{2,}")
_DIGITS = "0123456789"
_MOST_EITHER = 4
#: After digits these are units and ordinals ("6in"), not the rest of a word.
_UNITS = frozenset({"in", "ft", "mm", "cm", "km", "kg", "st", "nd", "rd", "th", "pm", "am"})


def split(text: str) -> list[Word]:
    """The words of a folded text."""
    return [
        Word(text=match.group(), start=match.start(), end=match.end())
        for match in WORD.finditer(text)
    ]


def walk(
    folded: Folded,
    words: list[Word],
    readings: Sequence[Mapping[str, How]],
    root: Node,
    first: int,
) -> Iterator[NameHit]:
    """Every path through the trie that the words from ``first`` on can follow."""
    open_paths: list[tuple[Node, int, How]] = [(root, first, "plain")]
    while open_paths:
        node, at, how = open_paths.pop()
        if at >= len(words) or (at > first and not _adjacent(folded.text, words, at)):
            continue
        for reading, way in readings[at].items():
            step = node.next.get(reading)
            if step is None:
                continue
            so_far: How = how if way == "plain" else way
            for entry in step.ends:
                yield hit_at(folded, entry, words[first].start, words[at].end, so_far)
            open_paths.append((step, at + 1, so_far))


def _adjacent(text: str, words: list[Word], at: int) -> bool:
    gap = text[words[at - 1].end : words[at].start]
    return bool(_GAP.fullmatch(gap)) and not _BREAK.search(gap)


def runs(
    text: str, words: list[Word], gap: re.Pattern[str], *, single: bool
) -> Iterator[list[Word]]:
    """Maximal runs of words (or of single letters) with nothing but a short gap between them."""
    shortest = 3 if single else 2
    run: list[Word] = []
    for word in words:
        fits = not single or len(word.text) == 1
        if run and not (fits and gap.fullmatch(text, run[-1].end, word.start)):
            if len(run) >= shortest:
                yield run
            run = []
        if fits:
            run.append(word)
    if len(run) >= shortest:
        yield run


def calm(word: Word) -> Word:
    """Without exclamation marks after it."""
    bare = word.text.rstrip("!") or word.text
    return Word(text=bare, start=word.start, end=word.start + len(bare))


def as_it_stands(word: str) -> dict[str, How]:
    """A word with no other reading."""
    return {word.strip(SIGNS): "plain"}


def readings(word: str) -> dict[str, How]:
    """How a word may be meant; the plain reading comes first."""
    bare = word.strip(SIGNS)
    found: dict[str, How] = {bare: "plain"}
    letters = sum(character.isalpha() or character in "$@" for character in word)
    if letters >= (2 if len(word) <= 3 else 1):
        for given in (bare, word):
            found.setdefault(given.translate(AS_I), "substituted")
            found.setdefault(given.translate(AS_L), "substituted")
        if 2 <= sum(word.count(sign) for sign in _EITHER) <= _MOST_EITHER:
            found |= {reading: "substituted" for reading in _mixed(word) if reading not in found}
        found.setdefault(bare.strip(_DIGITS), "substituted")
        if bare.lstrip(_DIGITS + ".") in _UNITS:
            return {bare: "plain"}
        for reading in [r for r in found if _STRETCHED.search(r)]:
            found.setdefault(_STRETCHED.sub(r"\1", reading), "substituted")
            found.setdefault(_STRETCHED.sub(r"\1\1", reading), "substituted")
    found.pop("", None)
    return found


def _mixed(word: str) -> list[str]:
    """Every reading of signs that are I in one place and L in another ("p|$701")."""
    found = [""]
    for sign in word:
        meant = "il" if sign in _EITHER else _LEET.get(sign, sign)
        found = [so_far + letter for so_far in found for letter in meant]
    return found
