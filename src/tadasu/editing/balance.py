"""The debias loop: how much of each attribute every concept needs, found by drawing and judging.

The published loop judges 10 pictures per concept and round, so "within 0.05" can only mean exactly
5 of 5, and a perfectly fair model passes with probability 0.25 a concept. Here every share comes
with a confidence sequence (:mod:`tadasu.statistics.confidence_sequence`), so it may be looked at
after every batch:

* a concept whose shares are surely within the tolerance is done, and is not touched again;
* a concept with a share that is surely off takes a step: its own gap divided by what the last step
  of that concept changed (first the given step size);
* any other concept is drawn more often, up to a limit.

Concepts that are balanced from the start are never edited. Several attributes (gender and skin
tone, each with its own wanted shares) are counted on the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tadasu.errors import BadInput, RunFailed, shown
from tadasu.statistics.confidence_sequence import confidence_sequence
from tadasu.statistics.intervals import Interval

Shares = Mapping[str, float]
Amounts = Mapping[str, Mapping[str, float]]
#: (amounts per concept, concepts to draw, how many of each, first seed) -> per concept and
#: picture, the values that the judge sees in it.
Draw = Callable[[Amounts, Sequence[str], int, int], Mapping[str, Sequence[frozenset[str]]]]
State = Literal["balanced", "off", "open"]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Parameters of the loop.

    Args:
        wanted: per attribute, the wanted share of each of its values, for example
            ``{"gender": {"man": 0.5, "woman": 0.5}}``; the shares of an attribute sum to 1.
        tolerance: how far a share may be from the wanted one.
        batch: pictures per concept and look.
        most: pictures per concept and edit before an undecided share counts as what it is.
        rounds: looks before the loop ends.
        step: change of an amount per unit of gap, until the concept's own response is known.
        largest: limit of an amount.
        confidence: of every decision, over all looks together.
        seed: of the first picture; every picture has its own.
    """

    wanted: Mapping[str, Shares]
    tolerance: float = 0.1
    batch: int = 16
    most: int = 128
    rounds: int = 40
    step: float = 0.5
    largest: float = 1.5
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse shares that do not add up and limits without meaning."""
        for attribute, shares in self.wanted.items():
            if len(shares) < 2 or abs(sum(shares.values()) - 1) > 1e-6:
                raise BadInput(f"Wanted shares of {shown(attribute)} must be two or more, sum 1.")
            if not all(0 < share < 1 for share in shares.values()):
                raise BadInput(f"Wanted shares of {shown(attribute)} must be between 0 and 1.")
        if not self.wanted or not 0 < self.tolerance < 1 or min(self.batch, self.rounds) < 1:
            raise BadInput("The loop needs wanted shares, a tolerance below 1, batch and rounds.")

    def run(self, concepts: Sequence[str], draw: Draw) -> tuple[Balance, ...]:
        """Balance all concepts together.

        Args:
            concepts: what is drawn, each once.
            draw: draws and judges; a value it does not mention was not seen in that picture.

        Raises:
            RunFailed: when the judge recognises no value in most pictures.
        """
        balances = {concept: Balance(concept=concept, loop=self) for concept in concepts}
        drawn = 0
        for _ in range(self.rounds):
            todo = [name for name, balance in balances.items() if balance.state != "balanced"]
            todo = [name for name in todo if not balances[name].exhausted]
            if not todo:
                break
            amounts = {
                name: dict(b.amounts) for name, b in balances.items() if any(b.amounts.values())
            }
            seen = draw(amounts, todo, self.batch, self.seed + drawn)
            drawn += self.batch
            for name in todo:
                balances[name] = balances[name].after(seen[name])
        return tuple(balances.values())


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One concept: its amounts, and what was counted with them.

    Args:
        concept: its text.
        loop: the parameters.
        amounts: how much of each value is added.
        counts: pictures in which each value was seen, with these amounts.
        n: per attribute, pictures in which one of its values was seen.
        before: amounts and shares before the last step.
        total: pictures drawn in all.
    """

    concept: str
    loop: Loop = field(repr=False)
    amounts: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    n: Mapping[str, int] = field(default_factory=dict)
    before: tuple[Mapping[str, float], Mapping[str, float]] | None = None
    total: int = 0

    @property
    def shares(self) -> dict[str, Interval]:
        """Share of every value, with limits that hold at every look."""
        values = sum(len(shares) for shares in self.loop.wanted.values())
        confidence = 1 - (1 - self.loop.confidence) / values
        return {
            value: confidence_sequence(
                self.counts.get(value, 0), self.n.get(attribute, 0), confidence, around=share
            )
            for attribute, shares in self.loop.wanted.items()
            for value, share in shares.items()
        }

    @property
    def wanted(self) -> dict[str, float]:
        """Wanted share of every value."""
        return {v: s for shares in self.loop.wanted.values() for v, s in shares.items()}

    @property
    def state(self) -> State:
        """``balanced`` surely within the tolerance, ``off`` surely not as wanted, else ``open``."""
        tolerance, shares = self.loop.tolerance, self.shares
        if all(
            limits.low >= self.wanted[v] - tolerance and limits.high <= self.wanted[v] + tolerance
            for v, limits in shares.items()
        ):
            return "balanced"
        outside = (
            limits.high < self.wanted[v] or limits.low > self.wanted[v]
            for v, limits in shares.items()
        )
        return "off" if any(outside) else "open"

    @property
    def exhausted(self) -> bool:
        """Whether enough was drawn with these amounts and no step is called for."""
        return max(self.n.values(), default=0) >= self.loop.most and self.state == "open"

    @property
    def gap(self) -> float:
        """Mean of ``|share - wanted| / wanted`` over all values."""
        found = [abs(s.estimate - self.wanted[v]) / self.wanted[v] for v, s in self.shares.items()]
        return sum(found) / len(found)

    def after(self, pictures: Sequence[frozenset[str]]) -> Balance:
        """With one more batch counted, and a step taken if one is called for.

        Raises:
            RunFailed: when half of the pictures or more show no value of an attribute.
        """
        counts, n = dict(self.counts), dict(self.n)
        for attribute, shares in self.loop.wanted.items():
            told = [values & shares.keys() for values in pictures]
            clear = [values for values in told if len(values) == 1]
            if 2 * len(clear) <= len(pictures):
                raise RunFailed(
                    f"The judge could tell {shown(attribute)} in {len(clear)} of {len(pictures)} "
                    f"pictures of {shown(self.concept)}; shares of so few mean nothing."
                )
            n[attribute] = n.get(attribute, 0) + len(clear)
            for value in (next(iter(values)) for values in clear):
                counts[value] = counts.get(value, 0) + 1
        counted = replace(self, counts=counts, n=n, total=self.total + len(pictures))
        return counted._stepped() if counted.state == "off" else counted

    def _stepped(self) -> Balance:
        shares = {value: limits.estimate for value, limits in self.shares.items()}
        limits = self.shares
        amounts = dict(self.amounts)
        for value, wanted in self.wanted.items():
            if limits[value].low <= wanted <= limits[value].high:
                continue  # not surely off: leave it alone
            moved = amounts.get(value, 0.0) + (wanted - shares[value]) * self._response(value)
            amounts[value] = max(-self.loop.largest, min(self.loop.largest, moved))
        # Other amounts are another model: what was counted before says nothing about it.
        return replace(self, amounts=amounts, counts={}, n={}, before=(self.amounts, shares))

    def _response(self, value: str) -> float:
        """Change of the amount per change of the share, as the last step of this concept showed."""
        if self.before is None:
            return self.loop.step
        amounts, shares = self.before
        turned = self.amounts.get(value, 0.0) - amounts.get(value, 0.0)
        changed = self.shares[value].estimate - shares[value]
        if turned == 0 or changed * turned <= 0:
            return 1.5 * self.loop.step
        return min(max(turned / changed, self.loop.step / 4), 4 * self.loop.step)


def mean_gap(balances: Sequence[Balance]) -> tuple[float, float]:
    """Mean gap over concepts, and half the width of its 95 % interval (over concepts).

    Raises:
        BadInput: when there is no concept.
    """
    if not balances:
        raise BadInput("There is no concept to average over.")
    gaps = [balance.gap for balance in balances]
    mean = sum(gaps) / len(gaps)
    if len(gaps) == 1:
        return mean, float("nan")
    variance = sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)
    return mean, 1.96 * (variance / len(gaps)) ** 0.5
