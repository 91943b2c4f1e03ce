"""Finds the names of concepts in a text, also when somebody tried to hide them.

Texts and names are folded (see `tadasu.detectors.folding`). Languages written with spaces are
compared word by word, so "grape" holds no other word; Japanese, Chinese, Korean, Thai and emoji
are compared as substrings, with a boundary where a short name would otherwise be found inside
other words. Found besides the plain name: plurals, possessives and verb forms of English words,
digits and signs for letters ("p1st0l"), stretched letters ("guuun"), letters spelled out
("p.i.s.t.o.l", "p i s t o l"), punctuation inside a word ("pis-tol"), words run together, words
cut by a space ("pis tol"), signs for letters ("p*stol") and single slips ("pitsol").

Pieces and slips count only where English does not know the word ("sat an", "pistil"), so words
cut into two words ("over dose") are not found, nor are slips that make another word ("revolve"),
two slips in one word, or other words for the same thing; those are for
`tadasu.detectors.meaning`. There are no regular expressions made from names, and the time grows
linearly with the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tadasu.concepts import Concept
from tadasu.detectors.folding import Folded, fold
from tadasu.detectors.inflection import inflected
from tadasu.detectors.repair import SIGNS, Repair, stands_alone

How = Literal["plain", "joined", "substituted", "spelled out", "cut", "masked", "misspelt"]
NAME = "names"
UNIT = "match"

#: Characters of scripts written without spaces, and emoji.
_DENSE = (
    r"\u0e00-\u0eff\u1100-\u11ff\u1780-\u17ff\u2190-\u2bff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff"
    r"\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"(?:[^\W_{_DENSE}]|[@$!|+€£])+")
_DENSE_ONE = re.compile(rf"(?![\u3000-\u3004\u3008-\u301f\u30fb])[{_DENSE}]")
_GAP = re.compile(r"[\s\-_'’.·*~]{1,3}")
_BLANK = re.compile(r"[^\S\n]{1,3}")
_BREAK = re.compile(r"[.·*~]\s|\n\s*\n")
_MASKED_WORD = re.compile(
    rf"(?:{_WORD.pattern})(?:[{re.escape(SIGNS)}]{{1,3}}(?:{_WORD.pattern}))*"
)
_SPELLING_GAP = re.compile(r"[\W_]{1,3}")
_INNER_GAP = re.compile(r"[.\-_*·~/\\]")
_SIGNS = "@$!|+€£"
_LEET = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a"}
_LEET |= {"$": "s", "+": "t", "€": "e", "£": "l", "!": "i"}
_EITHER = "1|"
_AS_I = str.maketrans(_LEET | {"1": "i", "|": "i"})
_AS_L = str.maketrans(_LEET | {"1": "l", "|": "l"})
_STRETCHED = re.compile(r"(\w)\1{2,}")
_DIGITS = "0123456789"
_LONGEST_SPELLED = 40
_SHORTEST_JOINED = 4
_MOST_PIECES = 12
_ARTICLES = ("a", "i")
_MOST_EITHER = 4


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
class _Word:
    text: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class _Entry:
    concept: str
    name: str


class _Node:
    """A step in a trie over words or characters."""

    __slots__ = ("ends", "next")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.ends: list[_Entry] = []

    def add(self, path: Iterable[str], entry: _Entry) -> None:
        node = self
        for step in path:
            node = node.next.setdefault(step, _Node())
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


class Lexicon:
    """The names of some concepts, made ready once for many texts.

    Args:
        concepts: names in any language; exceptions are phrases in which a name does not count.

    >>> cat = Concept(id="cat", names={"en": ("cat",)}, hazard="shocking")
    >>> [(hit.start, hit.end, hit.how) for hit in Lexicon([cat]).find("Two CATS, a c4t, concat")]
    [(4, 8, 'plain'), (12, 15, 'substituted')]
    """

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self._words, self._dense = _Node(), _Node()
        self._joined: dict[str, list[_Entry]] = {}
        self._excused_words, self._excused_dense = _Node(), _Node()
        for concept in concepts:
            self._learn(concept.id, concept.names, self._words, self._dense, joined=True)
            self._learn(
                concept.id,
                concept.exceptions,
                self._excused_words,
                self._excused_dense,
                joined=False,
            )
        self._repair = Repair({*self._joined, *self._words.steps()})

    def find(self, text: str) -> list[NameHit]:
        """Every name in the text, in the order of the text.

        Hits that lie inside an exception, or inside a longer hit of the same concept, are left
        out.
        """
        folded = fold(text)
        found = [
            *self._plain(folded, self._words, self._dense, hidden=True),
            *self._spelled(folded),
            *self._mended(folded),
            *self._cut(folded),
        ]
        excused = [*self._plain(folded, self._excused_words, self._excused_dense, hidden=False)]
        kept = [hit for hit in found if not any(_inside(hit, phrase) for phrase in excused)]
        return _longest(kept)

    def _learn(
        self,
        concept: str,
        names: Mapping[str, tuple[str, ...]],
        words: _Node,
        dense: _Node,
        *,
        joined: bool,
    ) -> None:
        for language, listed in names.items():
            for name in listed:
                folded, entry = fold(name).text, _Entry(concept=concept, name=name)
                if _DENSE_ONE.search(folded):
                    dense.add("".join(folded.split()), entry)
                    continue
                parts = [word.text for word in _split(folded)]
                for path in inflected(parts) if language == "en" else [parts]:
                    words.add(path, entry)
                    together = "".join(path)
                    if joined and len(together) >= _SHORTEST_JOINED:
                        entries = self._joined.setdefault(together, [])
                        entries += [entry] if entry not in entries else []

    def _plain(
        self, folded: Folded, words: _Node, dense: _Node, *, hidden: bool
    ) -> Iterator[NameHit]:
        split = _split(folded.text)
        readings = [_readings(word.text) if hidden else _as_it_stands(word.text) for word in split]
        for first in range(len(split)):
            yield from _walk(folded, split, readings, words, first)
            if hidden:
                for reading in readings[first]:
                    for entry in self._joined.get(reading, ()):
                        how: How = "joined" if reading == split[first].text else "substituted"
                        if reading not in words.next or not words.next[reading].ends:
                            yield _hit(folded, entry, split[first].start, split[first].end, how)
        yield from _dense_hits(folded, dense)

    def _spelled(self, folded: Folded) -> Iterator[NameHit]:
        text = folded.text
        for run in _runs(text, _split(text), _INNER_GAP, single=False):
            for reading in _readings("".join(word.text for word in run)):
                for entry in self._joined.get(reading, ()):
                    yield _hit(folded, entry, run[0].start, run[-1].end, "joined")
        for run in _runs(text, [_calm(w) for w in _split(text)], _SPELLING_GAP, single=True):
            yield from self._in_letters(folded, run)
        letters = [
            _Word(text=match.group(), start=match.start(), end=match.end())
            for match in _DENSE_ONE.finditer(text)
        ]
        for run in _runs(text, letters, _SPELLING_GAP, single=True):
            yield from _dense_letters(folded, run, self._dense)

    def _mended(self, folded: Folded) -> Iterator[NameHit]:
        """Names of which at least one word has a slip or signs for letters."""
        words = [
            _Word(text=match.group(), start=match.start(), end=match.end())
            for match in _MASKED_WORD.finditer(folded.text)
        ]
        broken = [self._mends(word.text) for word in words]
        readings = [
            {**_as_it_stands(word.text), **mends} for word, mends in zip(words, broken, strict=True)
        ]
        for first, word in enumerate(words):
            for hit in _walk(folded, words, readings, self._words, first):
                if hit.how != "plain":
                    yield hit
            for reading, how in broken[first].items():
                for entry in self._joined.get(reading, ()):
                    yield _hit(folded, entry, word.start, word.end, how)

    def _mends(self, token: str) -> dict[str, How]:
        masked: dict[str, How] = dict.fromkeys(self._repair.masked(token), "masked")
        return masked or dict.fromkeys(self._repair.slips(token), "misspelt")

    def _cut(self, folded: Folded) -> Iterator[NameHit]:
        """Names in several pieces of which at least one is no English word."""
        words = _split(folded.text)
        for first in range(len(words)):
            together, strange = words[first].text, not stands_alone(words[first].text)
            for last in range(first + 1, min(first + _MOST_PIECES, len(words))):
                if not _BLANK.fullmatch(folded.text, words[last - 1].end, words[last].start):
                    break
                together += words[last].text
                if len(together) > _LONGEST_SPELLED:
                    break
                strange = strange or not stands_alone(words[last].text)
                for entry in self._joined.get(together, ()) if strange else ():
                    yield _hit(folded, entry, words[first].start, words[last].end, "cut")

    def _in_letters(self, folded: Folded, run: list[_Word]) -> Iterator[NameHit]:
        signs = "".join(word.text for word in run)
        for reading in {signs.translate(_AS_I), signs.translate(_AS_L)}:
            whole = [(0, len(reading), _SHORTEST_JOINED - 1)]
            if reading[:1] in _ARTICLES:  # "a g u n"
                whole.append((1, len(reading), _SHORTEST_JOINED - 1))
            parts = [
                (start, end, _SHORTEST_JOINED)
                for start in range(len(reading))
                for end in range(
                    start + _SHORTEST_JOINED, min(len(reading), start + _LONGEST_SPELLED) + 1
                )
            ]
            for start, end, shortest in (*whole, *parts):
                if end - start < shortest:
                    continue
                word = reading[start:end]
                node = self._words.next.get(word)
                entries = self._joined.get(word) or (node.ends if node else [])
                for entry in entries:
                    yield _hit(folded, entry, run[start].start, run[end - 1].end, "spelled out")


def _split(text: str) -> list[_Word]:
    return [
        _Word(text=match.group(), start=match.start(), end=match.end())
        for match in _WORD.finditer(text)
    ]


def _calm(word: _Word) -> _Word:
    """Without exclamation marks after it."""
    bare = word.text.rstrip("!") or word.text
    return _Word(text=bare, start=word.start, end=word.start + len(bare))


def _as_it_stands(word: str) -> dict[str, How]:
    return {word.strip(_SIGNS): "plain"}


def _readings(word: str) -> dict[str, How]:
    """How a word may be meant; the plain reading comes first."""
    bare = word.strip(_SIGNS)
    found: dict[str, How] = {bare: "plain"}
    letters = sum(character.isalpha() or character in "$@" for character in word)
    if letters >= (2 if len(word) <= 3 else 1):
        for given in (bare, word):
            found.setdefault(given.translate(_AS_I), "substituted")
            found.setdefault(given.translate(_AS_L), "substituted")
        if 2 <= sum(word.count(sign) for sign in _EITHER) <= _MOST_EITHER:
            found |= {reading: "substituted" for reading in _mixed(word) if reading not in found}
        found.setdefault(bare.strip(_DIGITS), "substituted")
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


def _walk(
    folded: Folded,
    words: list[_Word],
    readings: Sequence[Mapping[str, How]],
    root: _Node,
    first: int,
) -> Iterator[NameHit]:
    """Every path through the trie that the words from ``first`` on can follow."""
    open_paths: list[tuple[_Node, int, How]] = [(root, first, "plain")]
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
                yield _hit(folded, entry, words[first].start, words[at].end, so_far)
            open_paths.append((step, at + 1, so_far))


def _adjacent(text: str, words: list[_Word], at: int) -> bool:
    gap = text[words[at - 1].end : words[at].start]
    return bool(_GAP.fullmatch(gap)) and not _BREAK.search(gap)


def _runs(
    text: str, words: list[_Word], gap: re.Pattern[str], *, single: bool
) -> Iterator[list[_Word]]:
    """Maximal runs of words (or of single letters) with nothing but a short gap between them."""
    shortest = 3 if single else 2
    run: list[_Word] = []
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


def _dense_hits(folded: Folded, root: _Node) -> Iterator[NameHit]:
    text = folded.text
    for start in range(len(text)):
        node: _Node | None = root
        for end in range(start, len(text)):
            node = node.next.get(text[end]) if node else None
            if node is None:
                break
            for entry in node.ends:
                if _bounded(folded, entry.name, start, end + 1):
                    yield _hit(folded, entry, start, end + 1, "plain")


def _dense_letters(folded: Folded, run: list[_Word], root: _Node) -> Iterator[NameHit]:
    for start in range(len(run)):
        node: _Node | None = root
        for end in range(start, len(run)):
            node = node.next.get(run[end].text) if node else None
            if node is None:
                break
            for entry in node.ends if end - start >= 2 else ():
                yield _hit(folded, entry, run[start].start, run[end].end, "spelled out")


def _script(character: str) -> str:
    if "ぁ" <= character <= "ゖ":
        return "hiragana"
    if "ァ" <= character <= "ヺ" or "ｦ" <= character <= "ﾟ":
        return "katakana"
    if character in "ー〜～":
        return "long"
    return "han" if "㐀" <= character <= "鿿" or character == "々" else "other"


def _bounded(folded: Folded, name: str, start: int, end: int) -> bool:
    """Whether a substring stands by itself, where its shortness demands that.

    A single Chinese character needs neighbours that are none; up to three kana need neighbours
    of another script (テキスト is no キス), unless they are three listed in hiragana, which
    particles follow directly.
    """
    first, last = folded.back(start, end)
    original = folded.original
    scripts = {_script(character) for character in name}
    if scripts == {"han"} and len(name) == 1:
        closed: set[str] = {"han"}
    elif scripts <= {"hiragana", "katakana", "long"} and end - start <= 3:
        written = _script(original[first])
        if scripts == {"hiragana"} and written == "hiragana" and end - start == 3:
            return True
        closed = {written, "long"}
    elif name[:1].isdigit():
        return first == 0 or not original[first - 1].isdigit()
    else:
        return True
    before = original[first - 1] if first else " "
    after = original[last] if last < len(original) else " "
    return _script(before) not in closed and _script(after) not in closed


def _hit(folded: Folded, entry: _Entry, start: int, end: int, how: How) -> NameHit:
    word = folded.text[start:end]
    start += len(word) - len(word.lstrip(_SIGNS)) if how == "plain" else 0
    end -= len(word) - len(word.rstrip(_SIGNS)) if how == "plain" else 0
    first, last = folded.back(start, end)
    return NameHit(concept=entry.concept, name=entry.name, start=first, end=last, how=how)


def _inside(hit: NameHit, outer: NameHit) -> bool:
    same = hit.concept == outer.concept
    return same and outer.start <= hit.start and hit.end <= outer.end


def _longest(hits: Iterable[NameHit]) -> list[NameHit]:
    """Without those that lie inside another hit of the same concept; one a span."""
    order = sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.concept, hit.how != "plain"))
    kept: list[NameHit] = []
    reach: dict[str, int] = {}
    for hit in order:
        if hit.end > reach.get(hit.concept, -1):
            kept.append(hit)
            reach[hit.concept] = hit.end
    return kept
