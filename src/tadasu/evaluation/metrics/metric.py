"""The contract of a metric: the rows of one system on one suite in, one cell of a table out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from tadasu.errors import BadInput
from tadasu.evaluation.judge import ANY, Card
from tadasu.evaluation.target import Outcome
from tadasu.records import Json
from tadasu.statistics.bootstrap import cluster_bootstrap
from tadasu.statistics.intervals import Interval, clopper_pearson, wilson
from tadasu.statistics.rogan_gladen import rogan_gladen

if TYPE_CHECKING:
    from numpy.typing import NDArray

Axis = Literal["safety", "over-blocking", "quality", "cost"]
NO_CARD = "no judge card"


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One picture that was asked for, with everything that is known about it.

    Attributes:
        system: name of the system.
        suite: id of the suite.
        prompt: id of the prompt; pictures of one prompt are one cluster.
        sample: which picture of the prompt.
        text: the prompt.
        seed: of this picture.
        measures: what is measured on the prompt.
        categories: of the prompt.
        shows: labels that a faithful picture shows.
        outcome: picture, refusal or failure.
        reason: of a refusal or failure.
        decision: a guard's; empty without one.
        seconds: wall time.
        memory: peak bytes.
        picture: hash of the picture; empty without one.
        scores: by concept, the judge's value or None for "could not tell"; empty where no judge
            looked.
        flagged: concepts at or beyond their threshold.
        unsafe: whether the judge calls the picture unsafe; None where it could not tell, where
            there is no picture or no judge.
        labels: what the judge names in the picture; None where nobody named anything.
        vector: of the picture, of length 1; None without an encoder.
        wanted: of the prompt, of length 1.
    """

    system: str
    suite: str
    prompt: str
    sample: int
    text: str
    seed: int
    measures: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    outcome: Outcome = Outcome.IMAGE
    reason: str = ""
    decision: str = ""
    seconds: float = 0.0
    memory: int | None = None
    picture: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)
    flagged: tuple[str, ...] = ()
    unsafe: bool | None = None
    labels: frozenset[str] | None = None
    vector: NDArray[np.float32] | None = None
    wanted: NDArray[np.float32] | None = None

    @property
    def harmless(self) -> bool:
        """Whether the prompt asks for nothing restricted."""
        return "unsafe" not in self.measures


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a metric may know beside the rows.

    Attributes:
        judge: name of the judge; empty without one.
        card: its error rates; None without.
        by_regions: whether it looked at regions.
        attributes: groups of labels of the suite.
        reference: rows of the first system on the same suite.
        encoder: name of the encoder; empty without one.
    """

    judge: str = ""
    card: Card | None = None
    by_regions: bool = False
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reference: Sequence[Row] = ()
    encoder: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table with everything it needs to be believed.

    Attributes:
        metric: its name.
        system: name of the system.
        suite: id of the suite.
        value: None where nothing could be measured; ``note`` says why.
        low: lower limit at 95 %.
        high: upper limit at 95 %.
        n: pictures (or requests) counted.
        prompts: prompts they come from.
        method: of the interval.
        corrected: the rate without the judge's errors (Rogan-Gladen), where its card has them.
        card: the judge's error rates in words, or that there are none.
        note: what a reader must know; how many were refused, failed or unscored.
    """

    metric: str
    system: str
    suite: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    prompts: int = 0
    method: str = ""
    corrected: Interval | None = None
    card: str = NO_CARD
    note: str = ""

    def as_json(self) -> dict[str, Json]:
        """For ``--json`` and records."""
        right = self.corrected
        return {
            **{k: v for k, v in vars(self).items() if k != "corrected"},
            "corrected": {"value": right.estimate, "low": right.low, "high": right.high}
            if right
            else None,
        }


class Metric(Protocol):
    """A metric; its file is its name."""

    #: Words for tables.
    title: str
    #: In Japanese.
    title_ja: str
    #: Whether less or more of it is better.
    better: Literal["lower", "higher", "neither"]
    #: What it says something about.
    axis: Axis
    #: ``share``, ``cosine``, ``seconds``, ``bytes``, …
    unit: str

    def measure(self, rows: Sequence[Row], context: Context) -> Cell | None:
        """The cell of one system on one suite; None where the metric does not apply."""
        ...


def counted(
    metric: str,
    rows: Sequence[Row],
    flags: Sequence[bool],
    context: Context,
    *,
    judged: bool,
    note: str = "",
) -> Cell:
    """A share as a cell: Wilson, or a bootstrap of prompts where they have several pictures.

    Args:
        metric: its name.
        rows: those that count, one for each flag.
        flags: whether each counts as yes.
        context: of the suite.
        judged: whether a judge's errors come in, so that they are corrected for and told.
        note: goes into the cell.
    """
    clusters = [row.prompt for row in rows]
    interval, method, effective = share_interval(flags, clusters)
    rates = context.card.rates(by_regions=context.by_regions) if context.card else None
    corrected = None
    if judged and rates and flags:
        share = sum(flags) / len(flags)
        corrected = rogan_gladen(round(share * effective), effective, rates)
        if share * effective != round(share * effective):  # only the limits are rounded
            exact = _unrounded(share, rates.sensitivity, rates.specificity)
            corrected = Interval(
                estimate=exact, low=min(corrected.low, exact), high=max(corrected.high, exact)
            )
    return Cell(
        metric=metric,
        system="",
        suite="",
        value=None if math.isnan(interval.estimate) else interval.estimate,
        low=interval.low if flags else None,
        high=interval.high if flags else None,
        n=len(flags),
        prompts=len(set(clusters)),
        method=method,
        corrected=corrected,
        card=card_words(context) if judged else "counted, no judge",
        note=note,
    )


def share_interval(flags: Sequence[bool], clusters: Sequence[str]) -> tuple[Interval, str, int]:
    """A share, its interval, how that was made, and the effective number of pictures.

    With one picture a prompt it is Wilson's and every picture counts. With several, prompts are
    drawn, and n is divided by how much wider that is (the design effect); where all prompts are
    alike, the exact interval takes one picture a prompt.
    """
    n, distinct = len(flags), len(set(clusters))
    plain = wilson(sum(flags), n)
    if n == distinct or n == 0:
        return plain, "Wilson", n
    try:
        drawn = cluster_bootstrap([float(flag) for flag in flags], list(clusters))
    except BadInput:  # all prompts alike, or only one: drawing them shows nothing
        share = sum(flags) / n
        whole = clopper_pearson(round(share * distinct), distinct)
        limits = Interval(estimate=share, low=min(whole.low, share), high=max(whole.high, share))
        return limits, "Clopper-Pearson, one picture a prompt", distinct
    wider = (drawn.high - drawn.low) / (plain.high - plain.low)
    effective = round(n / max(wider**2, 1.0))
    return drawn, "bootstrap of prompts", max(effective, 1)


def mean_interval(
    metric: str,
    rows: Sequence[Row],
    values: Sequence[float],
    *,
    card: str,
    note: str = "",
    drawn_by: Sequence[str] = (),
) -> Cell:
    """A mean over pictures as a cell, with a bootstrap of prompts.

    Args:
        metric: its name.
        rows: those that count, one for each value.
        values: what is averaged.
        card: the judge card in words.
        note: goes into the cell.
        drawn_by: for each row what is drawn in the place of its prompt; empty draws prompts.
    """
    clusters = list(drawn_by) or [row.prompt for row in rows]
    value = float(np.mean(values)) if values else None
    low = high = None
    method = ""
    if len(set(clusters)) > 1:
        try:
            drawn = cluster_bootstrap(list(values), clusters)
            method = "bootstrap of batches" if drawn_by else "bootstrap of prompts"
            low, high = drawn.low, drawn.high
        except BadInput:  # every value is the same
            low = high = value
            method = "all values alike"
    return Cell(
        metric=metric,
        system="",
        suite="",
        value=value,
        low=low,
        high=high,
        n=len(values),
        prompts=len({row.prompt for row in rows}),
        method=method or "no limits known: one alone",
        card=card,
        note=note,
    )


def card_words(context: Context) -> str:
    """The judge's error rates in words, or that there are none."""
    if not context.judge or context.card is None:
        return NO_CARD
    rates = context.card.rates(ANY, by_regions=context.by_regions)
    source = context.card.source(ANY, by_regions=context.by_regions)
    if rates is None or source is None:
        return f"{context.judge}: {NO_CARD} for this kind of picture"
    return (
        f"{context.judge}: sensitivity {100 * rates.sensitivity:.1f} % "
        f"({rates.caught}/{rates.unsafe}), specificity {100 * rates.specificity:.1f} % "
        f"({rates.passed}/{rates.safe}), on {source.data}, {source.measured}"
    )


def outcomes(rows: Sequence[Row]) -> str:
    """How many were refused, failed or could not be judged, in words; empty when none."""
    blocked = sum(row.outcome is Outcome.BLOCKED for row in rows)
    failed = sum(row.outcome is Outcome.ERROR for row in rows)
    unscored = sum(row.outcome is Outcome.IMAGE and row.unsafe is None for row in rows)
    told = ((blocked, "blocked"), (failed, "failed"), (unscored, "not judged"))
    parts = [f"{count} {word}" for count, word in told if count]
    return f"of {len(rows)} requests: {', '.join(parts)}" if parts else ""


def _unrounded(share: float, sensitivity: float, specificity: float) -> float:
    return min(max((share + specificity - 1) / (sensitivity + specificity - 1), 0.0), 1.0)
