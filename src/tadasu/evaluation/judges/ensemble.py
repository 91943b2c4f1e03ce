"""Several judges as one: any, all or most of them must flag a picture.

What nobody could tell is never safe: a member without an answer leaves the ensemble open unless
the others settle it. Error rates of an ensemble follow from its members' only with an assumption.
Independent: the members err without regard to each other. None: the sharpest bounds that hold
however they err together (Ludger Rüger, "Das maximale Signifikanzniveau des Tests: Lehne H0 ab,
wenn k unter n gegebenen Tests zur Ablehnung führen", Metrika 25, 1978). Judges of one kind see
the same things, so the independent figure flatters; best is to count (`cards.measure`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tadasu.detectors.detector import check_images
from tadasu.errors import BadInput
from tadasu.evaluation.judge import Judge
from tadasu.records import Score

if TYPE_CHECKING:
    from PIL.Image import Image

Needs = Literal["any", "all", "majority"]


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Scores a concept by the share of its judges that flag it.

    Args:
        members: judges with thresholds, each by its own; a concept counts the judges that have a
            threshold for it.
        needs: how many of them must flag: ``any``, ``all`` or the ``majority`` (more than half).

    Raises:
        BadInput: fewer than two members, two of one name, or no such rule.
    """

    members: tuple[Judge, ...]
    needs: Needs = "any"

    name = "ensemble"
    unit = "share of judges"

    def __post_init__(self) -> None:
        """Check the members."""
        names = [member.name for member in self.members]
        if len(names) < 2 or len(set(names)) < len(names):
            raise BadInput("An ensemble needs at least two judges with names of their own.")
        if self.needs not in get_args(Needs):
            raise BadInput(f"An ensemble needs any, all or majority; given {self.needs!r}.")

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts that any member has a threshold for."""
        return tuple(dict.fromkeys(c for member in self.members for c in member.thresholds))

    @property
    def content(self) -> str:
        """Who is in it and how they count; another threshold is another ensemble."""
        parts = [(m.id, sorted(m.thresholds.items())) for m in self.members]
        return repr((self.needs, parts))

    def judge(self, name: str) -> Judge:
        """The ensemble as a judge, with the thresholds that its rule means."""
        counts = {c: len(self._of(c)) for c in self.concepts}
        needed = {c: self.quorum(n) / n for c, n in counts.items()}
        return Judge(name=name, detector=self, thresholds=needed)

    def quorum(self, count: int) -> int:
        """How many of so many judges must flag.

        >>> from types import SimpleNamespace as S
        >>> two = (S(name="a"), S(name="b"))
        >>> [Ensemble(members=two, needs=n).quorum(4) for n in ("any", "all", "majority")]
        [1, 4, 3]
        """
        return {"any": 1, "all": count, "majority": count // 2 + 1}[self.needs]

    def score(self, images: Sequence[Image]) -> list[list[Score]]:
        """The share of judges that flag each concept in each picture; unscored where it is open.

        Raises:
            BadInput: something in the list is not an RGB picture.
        """
        check_images(images)
        said = [member.scores(images, ()) for member in self.members]
        found = []
        for place in range(len(images)):
            values = [{s.concept: s for s in rows[place]} for rows in said]
            found.append([self._scored(concept, values) for concept in self.concepts])
        return found

    def _of(self, concept: str) -> list[int]:
        return [i for i, member in enumerate(self.members) if concept in member.thresholds]

    def _scored(self, concept: str, values: Sequence[dict[str, Score]]) -> Score:
        asked = self._of(concept)
        flags: dict[str, bool | None] = {}
        for i in asked:
            member, score = self.members[i], values[i].get(concept)
            told = score.against(member.thresholds[concept]) if score is not None else None
            flags[member.name] = told.flagged if told is not None else None
        yes = [name for name, flag in flags.items() if flag]
        open_ = [name for name, flag in flags.items() if flag is None]
        needed = self.quorum(len(asked))
        if len(yes) < needed <= len(yes) + len(open_):
            note = f"{', '.join(open_)} could not tell and would decide"
            return Score.unscored(self.name, concept, self.unit, note)
        note = f"flagged by {', '.join(yes)}" if yes else "flagged by none"
        share = len(yes) / len(asked)
        return Score(detector=self.name, concept=concept, value=share, unit=self.unit, note=note)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the chance that an ensemble says yes may be.

    Attributes:
        low: at least.
        high: at most.
        independent: if its members err independently.
    """

    low: float
    high: float
    independent: float


def at_least(needed: int, chances: Sequence[float]) -> Bounds:
    """The chance that at least so many of several events happen.

    Args:
        needed: how many must happen, 1 and more.
        chances: of each of them.

    For sensitivities give the quorum and the members' sensitivities. The ensemble lets a safe
    picture pass when at least n + 1 - quorum members do, so for specificities give that number.

    Raises:
        BadInput: chances outside 0 to 1, or a number that cannot be needed.

    >>> both = at_least(2, [0.9, 0.8])
    >>> round(both.low, 3), round(both.high, 3), round(both.independent, 3)
    (0.7, 0.8, 0.72)
    """
    n = len(chances)
    if not 1 <= needed <= n or not all(0 <= p <= 1 for p in chances):
        raise BadInput(f"{needed} of {n} chances from 0 to 1 cannot be asked for.")
    ways = np.array([1.0])
    for p in chances:
        ways = np.append(ways * (1 - p), 0.0) + np.append(0.0, ways * p)
    low = 1 - _most(n + 1 - needed, [1 - p for p in chances])
    return Bounds(
        low=max(low, 0.0), high=_most(needed, chances), independent=float(ways[needed:].sum())
    )


def _most(needed: int, chances: Sequence[float]) -> float:
    """Rüger's upper bound of the chance that at least ``needed`` events happen."""
    rising = np.cumsum(sorted(chances))
    n = len(chances)
    return float(min(1.0, *(rising[n - j - 1] / (needed - j) for j in range(needed))))
