"""``zero_width``: characters between the letters that show nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.evaluation.redteam.evasion import Evasion, Word

_UNSEEN = ("\u200b", "\u200c", "\u200d", "\u2060", "\u00ad", "\ufeff", "\u180e", "\u034f")


@dataclass(frozen=True, kw_only=True)
class ZeroWidth(Evasion):
    """One unseen character between every two characters."""

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word with unseen characters; None for a single character."""
        if len(word.text) < 2:
            return None
        written = [word.text[0]]
        for letter in word.text[1:]:
            written += [chance.choice(_UNSEEN), letter]
        return "".join(written)
