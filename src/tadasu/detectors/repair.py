"""What a broken word may have been: one slip, or letters hidden behind a sign.

A token that an English dictionary knows is never called a slip, so "pistil" is no pistol. The
dictionary is the list of SCOWL words beside this file. A slip is one letter more, less or other,
or two neighbours swapped; in words of four letters it is one more or a swap (Frederick Damerau,
"A technique for computer detection and correction of spelling errors", Communications of the ACM
7, 1964). The first letter always stays. Candidates come from an index of deletions, so the time
does not depend on how many names there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from tadasu.detectors.inflection import plurals, verb_forms

SIGNS = "*?#%^&_~•°×"
"""Characters that stand for letters when they stand between letters."""

REMEMBERED = 50_000
"""Tokens whose answer is kept; texts come from strangers, so it must not grow without end."""

_LIST = Path(__file__).with_name("words.txt")
_SHORT = Path(__file__).with_name("short_words.txt")
_LONGEST_SHORT = 4
_SHORTEST_SLIP = 4
_LONGEST = 32
_SHORTEST_MASKED = 3
_SHORTEST_SOUND = 5
#: Letters that sound alike in English, in this order.
_SOUNDS = (
    (re.compile(r"c(?=[eiy])|z"), "s"),
    (re.compile(r"ck|c|q"), "k"),
    (re.compile(r"ph"), "f"),
    (re.compile(r"(?<=[wr])h|^k(?=n)"), ""),
    (re.compile(r"y"), "i"),
    (re.compile(r"(.)\1"), r"\1"),
)


@cache
def dictionary() -> frozenset[str]:
    """English words in lower case."""
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


@lru_cache(maxsize=REMEMBERED)
def is_word(token: str) -> bool:
    """Whether English has the word, or a word of which it is a plural or verb form.

    >>> is_word("pistil"), is_word("pistils"), is_word("pistl")
    (True, True, False)
    """
    known = dictionary()
    if token in known:
        return True
    bases = {token[:-cut] + end for cut in (1, 2, 3, 4) for end in ("", "e", "y", "f", "fe")}
    return any(
        token in (*plurals(base), *verb_forms(base))
        for base in bases
        if len(base) > 2 and base in known
    )


@cache
def short_words() -> frozenset[str]:
    """Common words of two to four letters."""
    lines = _SHORT.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@lru_cache(maxsize=REMEMBERED)
def stands_alone(piece: str) -> bool:
    """Whether a piece of a text is more than a piece of a word.

    Dictionaries hold nearly every short string ("et", "ho", "ar"), so short pieces must be common.

    >>> [stands_alone(piece) for piece in ("sat", "a", "bull", "et", "p", "grenade")]
    [True, True, True, False, False, True]
    """
    if len(piece) == 1:
        return piece in ("a", "i")
    if len(piece) <= _LONGEST_SHORT:
        return piece in short_words()
    return is_word(piece)


class Repair:
    """The words of some names, ready to be recognised when they are broken.

    Args:
        words: in lower case; those that are not plain Latin letters are left out.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._near: dict[str, list[str]] = {}
        self._by_length: dict[int, list[str]] = {}
        self._sounding: dict[str, list[str]] = {}
        for word in sorted({w for w in words if w.isascii() and w.isalpha()}):
            if len(word) >= _SHORTEST_MASKED:
                self._by_length.setdefault(len(word), []).append(word)
            if len(sounds := _sounds(word)) >= _SHORTEST_SOUND:
                self._sounding.setdefault(sounds, []).append(word)
            if len(word) >= _SHORTEST_SLIP:
                for key in (word, *_shortened(word)):
                    self._near.setdefault(key, []).append(word)

    def slips(self, token: str) -> list[str]:
        """Words that a token is one slip away from, or sounds like; none where it is a word itself.

        >>> Repair(["pistol"]).slips("pitsol"), Repair(["pistol"]).slips("pistil")
        (['pistol'], [])
        """
        if not _SHORTEST_SLIP <= len(token) <= _LONGEST or not (
            token.isascii() and token.isalpha()
        ):
            return []
        found = {
            word
            for key in (token, *_shortened(token))
            for word in self._near.get(key, ())
            if word[0] == token[0] and _one_slip(token, word)
        } | {*self._sounding.get(_sounds(token), ())}
        return [] if not found or is_word(token) else sorted(found)

    def masked(self, token: str) -> list[str]:
        """Words that a token with signs between its letters can stand for, a letter for a sign.

        At least half of the characters must be letters, and a word of three needs two of them.

        >>> Repair(["pistol"]).masked("p*st*l"), Repair(["pistol"]).masked("p****l")
        (['pistol'], [])
        """
        seen = [(i, c) for i, c in enumerate(token) if c not in SIGNS]
        if len(seen) == len(token) or 2 * len(seen) < len(token) or len(seen) < 2:
            return []
        if not (token[0].isalpha() and token[-1].isalpha()):
            return []
        return [
            word
            for word in self._by_length.get(len(token), ())
            if all(word[place] == character for place, character in seen)
        ]


def _sounds(word: str) -> str:
    """A spelling that words of the same sound share.

    >>> _sounds("cigarette") == _sounds("sigarete"), _sounds("vodka") == _sounds("vodca")
    (True, True)
    """
    for pattern, sound in _SOUNDS:
        word = pattern.sub(sound, word)
    return word


def _shortened(word: str) -> Iterator[str]:
    return (word[:i] + word[i + 1 :] for i in range(len(word)))


def _one_slip(token: str, word: str) -> bool:
    """Whether exactly one insertion, deletion, replacement or swap lies between them.

    In words of four letters a replacement usually makes another word, so it does not count.
    """
    if token == word or abs(len(token) - len(word)) > 1:
        return False
    same = next(
        (i for i, (a, b) in enumerate(zip(token, word, strict=False)) if a != b),
        min(len(token), len(word)),
    )
    one, two = token[same:], word[same:]
    swapped = one[2:] == two[2:] and one[:2] == two[1::-1]
    if len(one) == len(two):
        return swapped or (len(word) > _SHORTEST_SLIP and one[1:] == two[1:])
    return one[1:] == two if len(one) > len(two) else one == two[1:]
