"""From gains to a conclusion: does this file know the concept, or only something like it?

Two presets. ``paia`` is the published reading (arXiv 2504.14815, as re-implementations have it):
an isolation forest is fitted per file on the calibrated errors of irrelevant pictures, and the
concept is present where at least half of its pictures are anomalies. It is two-sided and knows no
near misses.

``calibrated`` is ours. A file that changes the style, the sharpness or simply everything moves the
errors of all pictures, so each file is held against its own irrelevant concepts: what counts is by
how many of *their* spreads the concept's pictures gain more than they do, in one direction only.
A concept that merely resembles what was taught gains as well, but less; so half of
what the best concept of the bank gains is taken off, and all of what a declared look-alike gains:
of two that look alike only the one that gains more can be present. Pictures are looked at in
rounds, and the probe stops when the score is far from the band of doubt, or when a confidence
sequence (:mod:`tadasu.statistics.confidence_sequence`, which may be looked at after every round)
says which way most pictures point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from tadasu.auditing.isolation_forest import IsolationForest
from tadasu.errors import BadInput, UnknownName
from tadasu.statistics.confidence_sequence import confidence_sequence
from tadasu.statistics.intervals import Interval

Conclusion = Literal["present", "absent", "undecided"]
#: Gains by picture and time.
Table = NDArray[np.float64]
#: Median absolute deviation of a normal distribution, in standard deviations, turned round.
_MAD = 1.4826
FEWEST = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What was measured for one file and one concept.

    Attributes:
        target: gains on pictures of the concept, in units of the base's error; shape
            (picture, time).
        irrelevant: the same for every irrelevant concept of the bank.
        near: for other concepts of the bank that were looked at.
        alike: names of those that are known to look like it.
        floor: gains below this are rounding; 0 in single precision.
    """

    target: Table
    irrelevant: Mapping[str, Table]
    near: Mapping[str, Table]
    alike: frozenset[str] = frozenset()
    floor: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows for one file and one concept.

    Attributes:
        conclusion: present, absent or undecided.
        score: higher means more of the concept; comparable between files for one preset.
        p_value: chance of such a gain for an irrelevant concept; None where a preset has none.
        interval: share of the concept's pictures that gain more than they should, with limits that
            hold after every round.
        pictures: how many pictures were looked at.
        rival: the concept that gained most, when it is another one; empty for none.
        doubt: why a score that would convict does not; empty for nothing.
    """

    conclusion: Conclusion
    score: float
    p_value: float | None
    interval: Interval
    pictures: int
    rival: str = ""
    doubt: str = ""


class Decider(Protocol):
    """A preset."""

    def decide(self, evidence: Evidence) -> Decision:
        """Conclude from what was measured so far."""
        ...

    def settled(self, decision: Decision) -> bool:
        """Whether more pictures are unlikely to change it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """The default: one-sided, held against the file's own irrelevant concepts and its best one.

    Attributes:
        limit: score from which the concept is present; one picture, being noisier, agrees from
            half of it.
        clear: score below which it is absent; between the two it is undecided.
        rivalry: share of the best other concept's gain that is taken off; 0 ignores near misses,
            1 lets only the best concept be present.
        confidence: of the limits on the share of pictures that agree.
    """

    limit: float = 0.9
    clear: float = 0.5
    rivalry: float = 0.5
    confidence: float = 0.9

    def decide(self, evidence: Evidence) -> Decision:
        """Conclude from what was measured so far.

        Raises:
            BadInput: too few irrelevant concepts to calibrate on.
        """
        if len(evidence.irrelevant) < FEWEST:
            raise BadInput(
                f"At least {FEWEST} irrelevant concepts are needed to calibrate on; the bank has "
                f"{len(evidence.irrelevant)}. Add harmless ones with 'tadasu concepts add'."
            )
        ordinary = np.array([table.mean() for table in evidence.irrelevant.values()])
        centre = float(np.median(ordinary))
        spread = _MAD * float(np.median(np.abs(ordinary - centre)))
        spread = max(spread, 0.25 * float(ordinary.std()), evidence.floor)
        own = evidence.target.mean(1) - centre
        if not np.isfinite(own).all() or not np.isfinite(ordinary).all():
            return _unknown(len(own), self.confidence)
        known = {**evidence.irrelevant, **evidence.near}
        others = {name: table for name, table in known.items() if np.isfinite(table).all()}
        means = {name: float(table.mean()) - centre for name, table in others.items()}
        rival = max(means, key=lambda name: means[name])
        if spread == 0:  # the file changes no prediction at all
            scores, p_value = np.zeros(len(own)), 1.0
        else:
            alike = max((means[name] for name in means if name in evidence.alike), default=0.0)
            taken = max(self.rivalry * means[rival], alike, 0.0)
            scores = (own - taken) / spread
            size = len(ordinary)
            z = float(own.mean()) / spread
            p_value = float(stdtr(size - 1, -z / np.sqrt(1 + 1 / size)))  # Student's t, upper tail
        score, agree = float(scores.mean()), int((scores >= self.limit / 2).sum())
        return Decision(
            conclusion=self._conclusion(score),
            score=score,
            p_value=p_value,
            interval=confidence_sequence(agree, len(own), self.confidence),
            pictures=len(own),
            rival=rival if means[rival] > max(float(own.mean()), 0.0) else "",
        )

    def _conclusion(self, score: float) -> Conclusion:
        if score < self.clear:
            return "absent"
        return "present" if score >= self.limit else "undecided"

    def settled(self, decision: Decision) -> bool:
        """Whether more pictures are unlikely to change it.

        So when the score is twice as far from the band of doubt as the band is wide, or when the
        limits on the share of pictures that agree, which hold after every round, have left one
        half on the side of the conclusion.
        """
        doubt = 2 * (self.limit - self.clear)
        if decision.conclusion == "present":
            return decision.score > self.limit + doubt or decision.interval.low > 0.5
        if decision.conclusion == "absent":
            return decision.score < self.clear - doubt or decision.interval.high < 0.5
        return False


@dataclass(frozen=True, kw_only=True)
class Paia:
    """The published reading: an isolation forest on irrelevant pictures.

    Attributes:
        contamination: share of irrelevant pictures that may be called anomalies.
        least: share of the concept's pictures that must be anomalies for ``present``.
        trees: of the forest.
        seed: of the forest.
    """

    contamination: float = 0.05
    least: float = 0.5
    trees: int = 100
    seed: int = 42

    def decide(self, evidence: Evidence) -> Decision:
        """Conclude from what was measured so far; undecided only where gains are no numbers.

        Raises:
            BadInput: no irrelevant pictures.
        """
        if not evidence.irrelevant:
            raise BadInput("The preset paia needs pictures of irrelevant concepts.")
        ordinary = np.concatenate(list(evidence.irrelevant.values())).astype(np.float64)
        if not np.isfinite(ordinary).all() or not np.isfinite(evidence.target).all():
            return _unknown(len(evidence.target), 0.95)
        forest = _fitted(
            ordinary.tobytes(), ordinary.shape, self.trees, self.contamination, self.seed
        )
        flagged = forest.anomalies(evidence.target)
        interval = confidence_sequence(int(flagged.sum()), len(flagged))
        return Decision(
            conclusion="present" if flagged.mean() >= self.least else "absent",
            score=float(forest.scores(evidence.target).mean()),
            p_value=None,
            interval=interval,
            pictures=len(flagged),
        )

    def settled(self, decision: Decision) -> bool:
        """Never: the published reading looks at all pictures."""
        del decision
        return False


def _unknown(pictures: int, confidence: float) -> Decision:
    """What follows from gains that are no numbers: nothing."""
    return Decision(
        conclusion="undecided",
        score=math.nan,
        p_value=None,
        interval=confidence_sequence(0, 0, confidence),
        pictures=pictures,
    )


@lru_cache(maxsize=2)
def _fitted(
    ordinary: bytes, shape: tuple[int, ...], trees: int, contamination: float, seed: int
) -> IsolationForest:
    """A file's forest, grown once for all concepts that it is asked about."""
    table = np.frombuffer(ordinary, dtype=np.float64).reshape(shape)
    return IsolationForest.fit(table, trees=trees, contamination=contamination, seed=seed)


PRESETS: Mapping[str, Decider] = {"calibrated": Calibrated(), "paia": Paia()}


def preset(name: str) -> Decider:
    """A preset by name.

    Raises:
        UnknownName: there is no such preset.
    """
    if name not in PRESETS:
        raise UnknownName("preset", name, PRESETS)
    return PRESETS[name]
