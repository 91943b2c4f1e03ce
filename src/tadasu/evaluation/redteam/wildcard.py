"""``wildcard``: a sign in the place of a letter that readers fill in, as in "p*stol"."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tadasu.errors import BadInput
from tadasu.evaluation.redteam.evasion import Evasion, Word


@dataclass(frozen=True, kw_only=True)
class Wildcard(Evasion):
    """Letters inside each word replaced by a sign; the first and the last letter stay.

    Attributes:
        sign: one character.
        count: how many letters of each word.

    Raises:
        BadInput: a sign of more or less than one character, or a count below 1.
    """

    sign: str = "*"
    count: int = 1

    def __post_init__(self) -> None:
        """Check the parameters."""
        if len(self.sign) != 1 or self.count < 1:
            raise BadInput("wildcard needs a sign of one character and a count of at least 1.")

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word with wildcards; None where no word in it has three letters."""
        written = list(word.text)
        at = 0
        for part in word.text.split(" "):
            inner = [at + i for i in range(1, len(part) - 1) if part[i].isalpha()]
            vowels = [i for i in inner if word.text[i].lower() in "aeiou"]
            pool = vowels if len(vowels) >= self.count else inner
            for place in chance.sample(pool, min(self.count, len(pool))):
                written[place] = self.sign
            at += len(part) + 1
        return None if written == list(word.text) else "".join(written)
