"""The debias loop: how much of each attribute every concept needs, found by drawing and judging.

The published loop judges 10 pictures per concept and round, so "within 0.05" can only mean exactly
5 of 5, and a perfectly fair model passes with probability 0.25 a concept. Here every share comes
with a confidence sequence (:mod:`tadasu.statistics.confidence_sequence`), so it may be looked at
after every batch:

* a concept is edited only once one of its shares is surely not the wanted one; concepts that are
  balanced from the start are never touched;
* amounts come from one model of all concepts' answers (:mod:`tadasu.editing.balance_response`),
  fitted to everything that was counted so far, so no picture is thrown away and a concept that was
  drawn once borrows the slope of the others;
* a concept whose shares are surely within the tolerance is done and is not drawn again.

Several attributes (gender and skin tone, each with its own wanted shares) are counted on the same
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tadasu.editing.balance_response import Look, Response, fit
from tadasu.errors import BadInput, RunFailed, shown
from tadasu.statistics.confidence_sequence import confidence_sequence
from tadasu.statistics.intervals import Interval

Shares = Mapping[str, float]
Amounts = Mapping[str, Mapping[str, float]]
#: (amounts per concept, concepts to draw, how many of each, first seed) -> per concept and
#: picture, the values that the judge sees in it.
Draw = Callable[[Amounts, Sequence[str], int, int], Mapping[str, Sequence[frozenset[str]]]]
State = Literal["balanced", "off", "open"]
#: Guess of the confidence sequence in samples: its limits are tightest at about this many.
LOOKED_FOR = 32.0


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Parameters of the loop.

    Args:
        wanted: per attribute, the wanted share of each of its values, for example
            ``{"gender": {"man": 0.5, "woman": 0.5}}``; the shares of an attribute sum to 1.
        tolerance: how far a share may be from the wanted one.
        batch: pictures per concept and look.
        most: pictures per concept in all; what is undecided then stays as it is.
        rounds: looks before the loop ends.
        step: amount that is expected to move log-odds by 1, until the concepts' answers are known.
        largest: limit of an amount.
        confidence: of every decision about a concept, over all looks together.
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
        if not (self.step > 0 and self.largest > 0):
            raise BadInput("Step and largest amount of the loop are above 0.")

    def run(
        self, concepts: Sequence[str], draw: Draw, start: Sequence[Balance] = ()
    ) -> tuple[Balance, ...]:
        """Balance all concepts together.

        Args:
            concepts: what is drawn, each once.
            draw: draws and judges; a value it does not mention was not seen in that picture.
            start: where an earlier run ended; give this one a later ``seed``.

        Raises:
            RunFailed: when the judge recognises no value in most pictures.
        """
        balances = {concept: Balance(concept=concept, loop=self) for concept in concepts}
        balances |= {b.concept: replace(b, loop=self) for b in start if b.concept in balances}
        drawn = 0
        for _ in range(self.rounds):
            todo = [name for name, b in balances.items() if not b.done]
            if not todo:
                break
            amounts = {name: b.amounts for name, b in balances.items() if b.amounts}
            seen = draw(amounts, todo, self.batch, self.seed + drawn)
            drawn += self.batch
            balances |= {name: balances[name].after(seen[name]) for name in todo}
            answers = self.answers(balances)
            balances |= {name: balances[name].stepped(answers) for name in todo}
        return tuple(balances.values())

    def answers(self, balances: Mapping[str, Balance]) -> dict[str, Response]:
        """Per attribute, how shares answer to amounts, from all concepts."""
        looks = {name: balance.looks for name, balance in balances.items()}
        return {a: fit(looks, tuple(shares), 1 / self.step) for a, shares in self.wanted.items()}


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One concept: its amounts, and what was counted.

    Args:
        concept: its text.
        loop: the parameters.
        amounts: how much of each value is added; empty for a concept that is not edited.
        looks: what was counted, one entry for each set of amounts, the last one first drawn last.
        expected: shares that the model of all answers expects with these amounts.
    """

    concept: str
    loop: Loop = field(repr=False)
    amounts: Mapping[str, float] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> Mapping[str, int]:
        """Pictures with the present amounts in which each value was seen."""
        last = self.looks[-1] if self.looks else None
        return last.counts if last and last.amounts == self.amounts else {}

    @property
    def n(self) -> dict[str, int]:
        """Per attribute, pictures with the present amounts in which one of its values was seen."""
        counts = self.counts
        return {a: sum(counts.get(v, 0) for v in s) for a, s in self.loop.wanted.items()}

    @property
    def total(self) -> int:
        """Pictures in which an attribute could be told, with any amounts."""
        some = next(iter(self.loop.wanted.values()))
        return sum(look.counts.get(value, 0) for look in self.looks for value in some)

    @property
    def shares(self) -> dict[str, Interval]:
        """Share of every value with the present amounts; the limits hold at every look."""
        free = sum(len(shares) - 1 for shares in self.loop.wanted.values())
        confidence = 1 - (1 - self.loop.confidence) / free
        return {
            value: confidence_sequence(
                self.counts.get(value, 0),
                self.n[attribute],
                confidence,
                around=share,
                width=LOOKED_FOR,
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
        return "off" if any(map(self._off, self.loop.wanted)) else "open"

    @property
    def done(self) -> bool:
        """Whether no more pictures are drawn: surely balanced, or all that were allowed."""
        return self.total >= self.loop.most or self.state == "balanced"

    @property
    def gap(self) -> float:
        """Mean of ``|share - wanted| / wanted`` over all values, as counted with these amounts."""
        found = [abs(s.estimate - self.wanted[v]) / self.wanted[v] for v, s in self.shares.items()]
        return sum(found) / len(found)

    def after(self, pictures: Sequence[frozenset[str]]) -> Balance:
        """With one more batch counted.

        Raises:
            RunFailed: when half of the pictures or more show no value of an attribute.
        """
        counts = dict(self.counts)
        for attribute, shares in self.loop.wanted.items():
            told = [values & shares.keys() for values in pictures]
            clear = [values for values in told if len(values) == 1]
            if 2 * len(clear) <= len(pictures):
                raise RunFailed(
                    f"The judge could tell {shown(attribute)} in {len(clear)} of {len(pictures)} "
                    f"pictures of {shown(self.concept)}; shares of so few mean nothing."
                )
            for value in (next(iter(values)) for values in clear):
                counts[value] = counts.get(value, 0) + 1
        before = self.looks[:-1] if self.counts else self.looks
        return replace(self, looks=(*before, Look(amounts=self.amounts, counts=counts)))

    def stepped(self, answers: Mapping[str, Response]) -> Balance:
        """With the amounts that the answers call for, where they call for others than it has."""
        amounts = dict(self.amounts)
        if self.state != "balanced":
            for attribute, wanted in self.loop.wanted.items():
                found, values = answers[attribute], set(wanted)
                here = found.shares(self.concept, self.amounts)
                far = max(abs(here[v] - wanted[v]) for v in wanted) > self.loop.tolerance / 2
                # Touched once it is surely off; a concept that is edited already follows the model.
                if far and (values & self.amounts.keys() or self._off(attribute)):
                    amounts |= found.amounts(self.concept, wanted, self.loop.largest)
        shares = [found.shares(self.concept, amounts) for found in answers.values()]
        expected = {value: share for found in shares for value, share in found.items()}
        return replace(self, amounts=amounts, expected=expected)

    def _off(self, attribute: str) -> bool:
        limits = self.shares
        return any(
            limits[value].high < wanted or limits[value].low > wanted
            for value, wanted in self.loop.wanted[attribute].items()
        )


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
