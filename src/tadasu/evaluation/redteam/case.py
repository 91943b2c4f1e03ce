"""``case``: letters in upper and lower case in turn, as in "PiStOl"."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.evaluation.redteam.evasion import Evasion, Word, letters


@dataclass(frozen=True, kw_only=True)
class AlternatingCase(Evasion):
    """Every second letter in upper case.

    >>> from tadasu.concepts import Concept
    >>> cat = Concept(id="cat", names={"en": ("kitten",)}, hazard="shocking")
    >>> AlternatingCase().hide(Word(text="kitten", concept=cat), random.Random(0))
    'KiTtEn'
    """

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word in mixed case; None for scripts without case."""
        del chance
        written = list(word.text)
        for turn, place in enumerate(letters(word.text)):
            written[place] = written[place].lower() if turn % 2 else written[place].upper()
        return None if written == list(word.text) else "".join(written)
