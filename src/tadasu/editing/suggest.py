"""Which concepts still leak, and what edit would help, from a log of judged prompts.

A concept is a candidate when its leak rate is surely above the limit (the lower end of its Wilson
interval). For the candidates a trial edit is solved; the harmless prompts that it would move most
become the preserve list, it is solved again, and what is expected of it is measured on contexts:
residual per concept and movement of the harmless prompts before and after preserving. No picture is
drawn and nothing is applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tadasu.editing.check import Check, check
from tadasu.editing.encoder import Encoder
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
    targets = erase([known[name] for name in leaks])
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
