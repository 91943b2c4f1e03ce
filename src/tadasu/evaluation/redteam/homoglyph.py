"""``homoglyph``: letters of other scripts that look like Latin ones, as in "pіstоl" (Cyrillic)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.errors import UnknownName
from tadasu.evaluation.redteam.evasion import Evasion, Word, some

_FRAKTUR = 0x1D51E
ALPHABETS = {
    "cyrillic": dict(zip("aceijopsxyhbkmt", "асеіјорѕхуһЬкмт", strict=True)),
    "greek": dict(zip("aeikovptunxy", "αεικονρτυηχγ", strict=True)),
    "full width": {chr(ord("a") + i): chr(0xFF41 + i) for i in range(26)},
    "fraktur": {chr(ord("a") + i): chr(_FRAKTUR + i) for i in range(26)},
    "circled": {chr(ord("a") + i): chr(0x24D0 + i) for i in range(26)},
    "accents": dict(zip("aceinosuyz", "áçéíñóśúýž", strict=True)),
}
"""For each alphabet the look-alikes of Latin letters."""


@dataclass(frozen=True, kw_only=True)
class Homoglyphs(Evasion):
    """Some letters replaced by look-alikes.

    Attributes:
        alphabet: one of `ALPHABETS`.
        share: of the letters that have a look-alike, above 0 and at most 1.

    Raises:
        UnknownName: no such alphabet.
        BadInput: the share is out of range.
    """

    alphabet: str = "cyrillic"
    share: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.alphabet not in ALPHABETS:
            raise UnknownName("alphabet of look-alikes", self.alphabet, ALPHABETS)
        self.checked_share(self.share)

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word with look-alikes; None where no letter has one."""
        table = ALPHABETS[self.alphabet]
        places = [i for i, letter in enumerate(word.text) if letter.lower() in table]
        if not places:
            return None
        written = list(word.text)
        for place in some(places, self.share, chance):
            written[place] = table[written[place].lower()]
        return "".join(written)
