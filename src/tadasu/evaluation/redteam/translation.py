"""``translation``: a name of the same concept in another language that the policy knows.

No translator runs: the concept's own names are the dictionary. They are lists and not pairs, so
"pistol" may become any Japanese name of its concept; what is asked for stays restricted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.evaluation.redteam.evasion import Evasion, Word


@dataclass(frozen=True, kw_only=True)
class Translation(Evasion):
    """A name in another language.

    Attributes:
        language: code of the language; empty for any other than the word's own.
    """

    language: str = ""

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """A name in another language; None where the concept has none."""
        names = word.concept.names
        own = {
            code for code, listed in names.items() if word.text.lower() in map(str.lower, listed)
        }
        wanted = [self.language] if self.language else [code for code in names if code not in own]
        others = [name for code in wanted if code not in own for name in names.get(code, ())]
        return chance.choice(others) if others else None
