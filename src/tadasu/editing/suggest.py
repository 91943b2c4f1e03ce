"""Which concepts still leak, and what edit would help, from a log of judged prompts.

A concept is a candidate when its leak rate is surely above the limit (the lower end of its Wilson
interval). For the candidates a trial edit is solved; the harmless prompts that it would move most
become the preserve list, it is solved again, and what is expected of it is measured on contexts:
residual per concept and movement of the harmless prompts before and after preserving. No picture is
drawn and nothing is applied.

How far a concept has to go is taken from its leak: a leak is expected to shrink in proportion to
the distance that is left, so a concept that leaks at 5 % and may at 2 % need not go all the way.
That proportion is a guess that one preview on pictures replaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tadasu.editing.check import Check, check
from tadasu.editing.edit import Edit
from tadasu.editing.encoder import Encoder
from tadasu.editing.make import Options, solve
from tadasu.editing.problem import Kept, assemble
from tadasu.editing.targets import Named, Target, erase, plain
from tadasu.errors import BadInput
from tadasu.statistics.intervals import Rate


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One judged picture.

    Args:
        prompt: what was asked for.
        concept: identifier of the concept it was judged for; empty for a harmless prompt.
        flagged: whether the concept was seen; None when the judge could not tell.
    """

    prompt: str
    concept: str
    flagged: bool | None


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """An edit worth trying.

    Args:
        targets: concepts to erase, the one that leaks most first.
        leaks: leak rate of each.
        preserve: harmless prompts to hold.
        expected: the self-check of the suggested edit, per site.
        unguarded: worst movement of a harmless prompt without the preserve list, per site.
    """

    targets: tuple[Target, ...]
    leaks: dict[str, Rate]
    preserve: tuple[str, ...]
    expected: dict[str, Check]
    unguarded: dict[str, float]

    def expected_leak(self, concept: str) -> float:
        """What is left of a leak, if it shrinks as the distance to the target does."""
        strength = {target.concept: target.strength for target in self.targets}[concept]
        residual = max(found.residual[concept] for found in self.expected.values())
        return self.leaks[concept].value * (1 - strength * (1 - residual))


def leaking(outcomes: Iterable[Outcome], limit: float = 0.02) -> dict[str, Rate]:
    """Concepts whose leak rate is surely above the limit, worst first.

    >>> seen = [Outcome(prompt="x", concept="pistol", flagged=i < 8) for i in range(20)]
    >>> list(leaking(seen)), leaking(seen, limit=0.5)
    (['pistol'], {})
    """
    counts: dict[str, list[int]] = {}
    for outcome in outcomes:
        if outcome.concept and outcome.flagged is not None:
            found = counts.setdefault(outcome.concept, [0, 0])
            found[0] += outcome.flagged
            found[1] += 1
    rates = {name: Rate(count=hits, n=n) for name, (hits, n) in counts.items()}
    sure = {name: rate for name, rate in rates.items() if rate.low > limit}
    return dict(sorted(sure.items(), key=lambda item: -item[1].value))


def strength_for(leak: Rate, limit: float) -> float:
    """How much of the way a concept has to go, in steps of 0.05, from the most it may leak.

    >>> strength_for(Rate(count=20, n=20), 0.02), strength_for(Rate(count=100, n=1000), 0.05)
    (1.0, 0.6)
    """
    return min(1.0, math.ceil(20 * (1 - limit / leak.high)) / 20)


def suggest(
    encoder: Encoder,
    solver: Any,
    concepts: Sequence[Named],
    outcomes: Sequence[Outcome],
    *,
    limit: float = 0.02,
    most_preserved: int = 32,
) -> Suggestion | None:
    """The edit that the log calls for; None when nothing surely leaks.

    Args:
        encoder: the model's texts.
        solver: solves the trial.
        concepts: the vocabulary, for the names in all languages.
        outcomes: the log; prompts without a concept are the harmless ones.
        limit: leak rate that is let pass.
        most_preserved: length of the preserve list.

    Raises:
        BadInput: when the log speaks of a concept that the vocabulary does not have.
    """
    leaks = leaking(outcomes, limit)
    known = {concept.id: concept for concept in concepts}
    missing = sorted(leaks.keys() - known.keys())
    if missing:
        raise BadInput(f"The log names concepts the policy does not have: {', '.join(missing)}.")
    if not leaks:
        return None
    targets = tuple(
        replace(target, strength=strength_for(leaks[target.concept], limit))
        for target in erase([known[name] for name in leaks])
    )
    spoken = {plain(text) for target in targets for text in target.texts}
    harmless = dict.fromkeys(o.prompt for o in outcomes if not o.concept)
    quiet = tuple(p for p in harmless if not any(word in plain(p) for word in spoken))
    trial = _checks(encoder, solver, targets, (), quiet)
    moved = [pair for found in trial.values() for pair in found.collateral]
    ranked = sorted(moved, key=lambda pair: -pair[1])
    preserve = tuple(dict.fromkeys(text for text, _ in ranked))[:most_preserved]
    return Suggestion(
        targets=targets,
        leaks=leaks,
        preserve=preserve,
        expected=_checks(encoder, solver, targets, preserve, quiet),
        unguarded={site: found.worst_drift or 0.0 for site, found in trial.items()},
    )


def made(pipe: Any, found: Suggestion, solver: Any, name: str) -> Edit:
    """The suggested edit of a pipeline, ready to be saved.

    Raises:
        BadInput: as :func:`tadasu.editing.make.solve`.
    """
    return solve(pipe, found.targets, Options(name=name, solver=solver, preserve=found.preserve))


def _checks(
    encoder: Encoder,
    solver: Any,
    targets: Sequence[Target],
    preserve: tuple[str, ...],
    quiet: Sequence[str],
) -> dict[str, Check]:
    kept = Kept(texts=preserve, captions=tuple(quiet))
    problems = assemble(encoder, targets, reading=solver.reading, kept=kept)
    contexts = encoder.encode(list(quiet)) if quiet else {}
    result = {}
    for site, problem in problems.items():
        rows = dict(zip(quiet, contexts[site].contexts, strict=True)) if quiet else {}
        result[site] = check(solver.solve(problem), problem, rows, shown=len(quiet))
    return result
