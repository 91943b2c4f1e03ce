"""The common forms of English words: plurals and verb forms, without a dictionary."""

from __future__ import annotations

from collections.abc import Sequence

_VOWELS = "aeiou"


def inflected(words: Sequence[str]) -> list[list[str]]:
    """A name and its forms: the last word of several in the plural, a single word in all forms.

    >>> ["".join(form) for form in inflected(["stab"])]
    ['stab', 'stabs', 'stabbed', 'stabbing']
    >>> inflected(["kitchen", "knife"])
    [['kitchen', 'knife'], ['kitchen', 'knives'], ['kitchen', 'knifes']]
    """
    if not words:
        return []
    *before, last = words
    forms = [last]
    if last.isascii() and last.isalpha() and len(last) > 1 and not _is_plural(last):
        forms += plurals(last)
        if not before and len(last) > 2:
            forms += verb_forms(last)
    return [[*before, form] for form in dict.fromkeys(forms)]


def plurals(noun: str) -> list[str]:
    """Possible plurals.

    >>> plurals("ax"), plurals("body"), plurals("day")
    (['axes'], ['bodies'], ['days'])
    """
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return [noun + "es"]
    if noun.endswith("y") and noun[-2] not in _VOWELS:
        return [noun[:-1] + "ies"]
    if noun.endswith("fe"):
        return [noun[:-2] + "ves", noun + "s"]
    return [noun + "s"]


def verb_forms(verb: str) -> list[str]:
    """Past tense and participles, as if the word were a regular verb.

    >>> verb_forms("kill"), verb_forms("mutilate")
    (['killed', 'killing'], ['mutilated', 'mutilating'])
    """
    if verb.endswith(("ing", "ed")):
        return []
    if verb.endswith("e"):
        return [verb + "d", verb[:-1] + "ing"]
    if verb.endswith("y") and verb[-2] not in _VOWELS:
        return [verb[:-1] + "ied", verb + "ing"]
    short = len(verb) <= 4 and verb[-1] not in _VOWELS + "wxy" and verb[-2] in _VOWELS
    if short and (len(verb) < 3 or verb[-3] not in _VOWELS):
        return [verb + verb[-1] + "ed", verb + verb[-1] + "ing"]
    return [verb + "ed", verb + "ing"]


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))
