"""Letters that look like letters of another script, by Unicode's table of confusables.

The table is that of Unicode Technical Standard 39 ("Unicode Security Mechanisms"), as the package
``confusable-homoglyphs`` carries it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache


@cache
def latin() -> Mapping[int, str]:
    """Code points outside ASCII that look like one Latin letter, with that letter in lower case."""
    return {
        ord(one): twin.lower()
        for one, twins in _pairs()
        for twin in twins
        if not one.isascii() and twin.isascii() and twin.isalpha()
    }


@cache
def katakana() -> Mapping[str, str]:
    """Characters that look like a letter of katakana, with that letter.

    >>> [katakana()[sign] for sign in "夕一口"]
    ['タ', 'ー', 'ロ']
    """
    return {
        one: twin
        for one, twins in _pairs()
        for twin in twins
        if is_katakana(twin) and not is_katakana(one) and not "ぁ" <= one <= "ゖ"
    }


def is_katakana(character: str) -> bool:
    """Whether a character is a letter of katakana or the sign for a long vowel."""
    return "ァ" <= character <= "ヺ" or character == "ー"


def _pairs() -> Iterator[tuple[str, list[str]]]:
    from confusable_homoglyphs.confusables import confusables_data

    for one, twins in confusables_data.items():
        if len(one) == 1:
            yield one, [twin["c"] for twin in twins if len(twin["c"]) == 1]
