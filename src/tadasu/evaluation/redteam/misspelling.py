"""``misspelling``: one slip a word that readers forgive, as in "pitsol", "pistl" and "pistoll"."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.errors import UnknownName
from tadasu.evaluation.redteam.evasion import Evasion, Word

KINDS = ("any", "swap", "drop", "double", "vowel")
_VOWELS = "aeiou"


@dataclass(frozen=True, kw_only=True)
class Misspelling(Evasion):
    """One slip in every word of four letters or more; the first letter stays.

    Attributes:
        kind: ``swap`` two neighbours, ``drop`` or ``double`` a letter, another ``vowel``, or
            ``any`` of them.

    Raises:
        UnknownName: no such kind.
    """

    kind: str = "any"

    def __post_init__(self) -> None:
        """Check the parameter."""
        if self.kind not in KINDS:
            raise UnknownName("kind of misspelling", self.kind, KINDS)

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word with slips; None where every word in it is short or not Latin."""
        written = " ".join(self._slip(part, chance) for part in word.text.split(" "))
        return None if written == word.text else written

    def _slip(self, part: str, chance: random.Random) -> str:
        if len(part) < 4 or not (part.isascii() and part.isalpha()):
            return part
        found = [made for kind in _kinds(self.kind) if (made := _slips(part, kind))]
        return chance.choice(chance.choice(found)) if found else part


def _kinds(kind: str) -> tuple[str, ...]:
    return KINDS[1:] if kind == "any" else (kind,)


def _slips(part: str, kind: str) -> list[str]:
    """Every slip of one kind in one word."""
    inner = range(1, len(part))
    if kind == "swap":
        made = [part[:i] + part[i + 1] + part[i] + part[i + 2 :] for i in inner[:-1]]
    elif kind == "drop":
        made = [part[:i] + part[i + 1 :] for i in inner]
    elif kind == "double":
        made = [part[: i + 1] + part[i] + part[i + 1 :] for i in inner]
    else:
        vowels = [i for i in inner if part[i].lower() in _VOWELS]
        made = [part[:i] + other + part[i + 1 :] for i in vowels for other in _VOWELS]
    return [each for each in made if each.lower() != part.lower()]
