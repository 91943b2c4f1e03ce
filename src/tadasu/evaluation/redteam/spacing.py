"""``spacing``: gaps inside a word, as in "pis tol", "p i s t o l" and "p.i.s.t.o.l"."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from tadasu.errors import BadInput
from tadasu.evaluation.redteam.evasion import Evasion, Word


@dataclass(frozen=True, kw_only=True)
class Spacing(Evasion):
    """A word cut into pieces.

    Attributes:
        gap: what stands between the pieces; a space, unless a file says otherwise.
        pieces: into how many pieces each word is cut; 0 puts the gap between all letters.

    Raises:
        BadInput: an empty gap, or one piece.
    """

    gap: str = " "
    pieces: int = 2

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not self.gap or self.pieces == 1 or self.pieces < 0:
            raise BadInput("spacing needs a gap, and pieces=0 (every letter) or 2 and more.")

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word in pieces of at least one letter; None where it is too short."""
        cut = [self._cut(part, chance) for part in word.text.split(" ")]
        written = " ".join(cut)
        return None if written == word.text else written

    def _cut(self, part: str, chance: random.Random) -> str:
        if self.pieces == 0:
            return self.gap.join(part)
        if len(part) < 2 * self.pieces:
            return part
        inside = range(2, len(part) - 1) if len(part) > 2 * self.pieces else range(1, len(part))
        cuts = sorted(chance.sample(inside, min(self.pieces - 1, len(inside))))
        edges = [0, *cuts, len(part)]
        return self.gap.join(part[a:b] for a, b in pairwise(edges))
