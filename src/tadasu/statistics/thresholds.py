"""Finds thresholds of one or several scores, and says what they promise.

Labelled items are split in two by chance. The first part proposes rules, from those that flag
nearly everything to those that flag little; the second part tests them in that order
(`tadasu.statistics.risk_control`), so proposing costs the promise nothing. This is the split fixed
sequence of Learn then Test (arXiv 2110.01052, section 4.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from tadasu.errors import BadInput, shown
from tadasu.statistics.risk_control import Certificate, Correction, Promise, certify

Direction = Literal["above", "below"]
Combine = Literal["and", "or"]
#: How much finer one score is looked at where both kinds of error are promised about.
FINER = 8
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of every labelled item.

    Args:
        name: of the score.
        values: shape (item); every one finite.
        flags: ``"above"`` flags values from the threshold on, ``"below"`` values up to it.

    Raises:
        BadInput: no values, a value that is not finite, or another direction.
    """

    name: str
    values: Floats
    flags: Direction = "above"

    def __post_init__(self) -> None:
        """Refuse scores that no threshold divides."""
        if self.values.ndim != 1 or not self.values.size or not np.all(np.isfinite(self.values)):
            raise BadInput(f"Every {shown(self.name)} must be a finite number, one an item.")
        if self.flags not in ("above", "below"):
            raise BadInput(f"A score flags above or below; got {shown(self.flags)}.")

    def flagged(self, threshold: float) -> Flags:
        """What a threshold flags."""
        if self.flags == "above":
            return np.asarray(self.values >= threshold)
        return np.asarray(self.values <= threshold)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a calibration found.

    Attributes:
        thresholds: by score, of the chosen rule; None when nothing can be certified.
        candidates: thresholds of the tested rules, in the order of testing; shape (rule, score).
        certificate: of the rules.
        tested: which items tested the rules; the others proposed them.
        positive: how many of the tested items are positive.
        negative: how many are negative.
    """

    thresholds: tuple[float, ...] | None
    candidates: Floats
    certificate: Certificate
    tested: Flags
    positive: int
    negative: int


def find(
    scores: Sequence[Score],
    positive: NDArray[np.bool_],
    promises: Sequence[Promise],
    *,
    combine: Combine = "and",
    confidence: float = 0.95,
    correction: Correction = "fixed sequence",
    proposing: float = 0.3,
    levels: int = 24,
    seed: int = 0,
) -> Found:
    """Thresholds that keep the promises, with the fewest false alarms among those certified.

    Args:
        scores: one or two; more take long.
        positive: the truth; shape (item).
        promises: what must hold of the next items.
        combine: with several scores, whether ``"and"`` all or ``"or"`` any must flag.
        confidence: as in `certify`.
        correction: as in `certify`.
        proposing: share of the items that propose rules, above 0 and below 1.
        levels: thresholds a score that are looked at; fewer rules are tested.
        seed: of the split.

    Raises:
        BadInput: as in `certify`, sizes that differ, or too few items to split.
        MissingPart: as in `certify`.
    """
    truth = np.asarray(positive)
    if not scores or any(score.values.shape != truth.shape for score in scores):
        raise BadInput("Give at least one score, and one value of it for each label.")
    if combine not in ("and", "or") or not 0 < proposing < 1 or levels < 2:
        raise BadInput("Gates are 'and' or 'or'; 0 < proposing < 1; at least 2 levels.")
    tested = _split(truth, proposing, seed)
    both = any(promise.risk == "false alarms" for promise in promises)
    fine = FINER * levels if both and len(scores) == 1 else levels
    grid = np.array(list(itertools.product(*(_levels(s, ~tested, fine) for s in scores))))
    flagged = np.stack([gate(scores, row, combine) for row in grid])
    chosen = _sequence(flagged[:, ~tested], truth[~tested], levels)
    if both:
        chosen = _likeliest_first(flagged[:, ~tested], truth[~tested], promises)[:levels]
    certificate = certify(
        flagged[chosen][:, tested],
        truth[tested],
        promises,
        confidence=confidence,
        correction=correction,
    )
    best = certificate.chosen
    return Found(
        thresholds=None if best is None else tuple(map(float, grid[chosen][best])),
        candidates=grid[chosen],
        certificate=certificate,
        tested=tested,
        positive=int(truth[tested].sum()),
        negative=int((~truth[tested]).sum()),
    )


def gate(scores: Sequence[Score], thresholds: Sequence[float] | Floats, combine: Combine) -> Flags:
    """What several thresholds flag together.

    >>> image = Score(name="image", values=np.array([0.1, 0.3, 0.3]))
    >>> reward = Score(name="reward", values=np.array([-2.0, -2.0, 1.0]), flags="below")
    >>> gate([image, reward], [0.2, 0.0], "and").tolist()
    [False, True, False]
    """
    each = [score.flagged(float(t)) for score, t in zip(scores, thresholds, strict=True)]
    together = np.logical_and if combine == "and" else np.logical_or
    return np.asarray(together.reduce(each))


def _split(truth: Flags, proposing: float, seed: int) -> Flags:
    """True for the items that test; both kinds are split in the same share."""
    rng = np.random.default_rng(seed)
    tested = np.ones(truth.shape, dtype=np.bool_)
    for kind in (True, False):
        places = rng.permutation(np.flatnonzero(truth == kind))
        count = round(proposing * places.size)
        if count < 2 or places.size - count < 2:
            raise BadInput(
                f"Only {places.size} items are {'positive' if kind else 'negative'}; with fewer "
                "than about 10 of a kind nothing can be proposed and tested."
            )
        tested[places[:count]] = False
    return tested


def _levels(score: Score, proposing: Flags, levels: int) -> Floats:
    """Thresholds half way between values of the proposing part, from flagging all to little."""
    known = np.unique(score.values[proposing])
    middles = (known[1:] + known[:-1]) / 2
    ends = (known[0], known[-1])
    every = np.concatenate([[ends[0]], middles, [ends[1]]])
    places = np.unique(np.linspace(0, every.size - 1, min(levels, every.size)).round().astype(int))
    return np.asarray(every[places])


def _sequence(flagged: Flags, truth: Flags, levels: int) -> NDArray[np.intp]:
    """The rules worth testing: for each number of false alarms the one that misses least.

    They stand from many false alarms to few, so the first are those that surely miss nothing.
    """
    missed = (~flagged & truth).sum(1)
    alarms = (flagged & ~truth).sum(1)
    limits = np.unique(np.linspace(0, (~truth).sum(), levels).round().astype(int))[::-1]
    chosen: list[int] = []
    for limit in limits:
        allowed = np.flatnonzero(alarms <= limit)
        if allowed.size:
            order = np.lexsort((-alarms[allowed], missed[allowed]))
            best = int(allowed[order[0]])
            if best not in chosen:
                chosen.append(best)
    return np.array(chosen, dtype=np.intp)


def _likeliest_first(flagged: Flags, truth: Flags, promises: Sequence[Promise]) -> NDArray[np.intp]:
    """Rules in the order in which the proposing items speak for them.

    A promise about false alarms fails at the rule that flags everything, so a sequence that begins
    there certifies nothing. What comes first is the rule with the smallest of its largest p-values
    on the proposing items, which have no part in the test (split fixed sequence, Learn then Test).
    """
    kinds = {"missed": (~flagged, truth), "false alarms": (flagged, ~truth)}
    worst = np.zeros(len(flagged))
    for promise in promises:
        wrong, among = kinds[promise.risk]
        failures, n = wrong[:, among].sum(1), int(among.sum())
        worst = np.maximum(worst, binom.cdf(failures, n, promise.limit))
    return np.asarray(np.argsort(worst, kind="stable"), dtype=np.intp)
