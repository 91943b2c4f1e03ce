"""``leet``: digits and signs for letters, as in "p1st0l"."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.evaluation.redteam.evasion import Evasion, Word, some

_SIGNS = {"a": "4@", "b": "8", "e": "3€", "g": "9", "i": "1!|", "l": "1|", "o": "0", "s": "5$"}
_SIGNS |= {"t": "7+"}


@dataclass(frozen=True, kw_only=True)
class Leet(Evasion):
    """Some letters replaced by digits and signs that look like them.

    Attributes:
        share: of the letters that can be replaced, above 0 and at most 1.

    Raises:
        BadInput: the share is out of range.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameter."""
        self.checked_share(self.share)

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word with digits and signs; None where no letter has one."""
        places = [i for i, letter in enumerate(word.text) if letter.lower() in _SIGNS]
        if not places:
            return None
        written = list(word.text)
        for place in some(places, self.share, chance):
            written[place] = chance.choice(_SIGNS[written[place].lower()])
        return "".join(written)
