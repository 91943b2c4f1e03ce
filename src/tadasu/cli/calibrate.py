"""``tadasu calibrate``: thresholds with a stated guarantee, from labelled scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.cli.output import messages, print_json, results
from tadasu.errors import BadFile, BadInput, shown

if TYPE_CHECKING:
    from tadasu.records import Json
    from tadasu.statistics.risk_control import Promise
    from tadasu.statistics.thresholds import Found, Score

app = typer.Typer(help="Find thresholds with a stated guarantee.", no_args_is_help=True)
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


class GateChoice(StrEnum):
    """Which findings open the gate."""

    POST_ONLY = "post_only"
    AND = "and"
    OR = "or"


class Side(StrEnum):
    """Which side of a threshold is flagged."""

    ABOVE = "above"
    BELOW = "below"


class CorrectionChoice(StrEnum):
    """How many rules are tested at once."""

    FIXED = "fixed-sequence"
    HOLM = "holm"
    BONFERRONI = "bonferroni"


Table = Annotated[
    str,
    typer.Argument(
        help="CSV, JSON lines or Parquet with one labelled item a row; world for the bundled "
        "models' scores.",
        show_default=False,
    ),
]
Label = Annotated[
    str, typer.Option("--label", help="Column with the truth: 1 or true for what to flag.")
]
Missed = Annotated[
    float, typer.Option("--missed", help="Promise: at most this share of them is missed.")
]
Alarms = Annotated[
    float | None,
    typer.Option("--false-alarms", help="Promise besides: at most this share of the others."),
]
Confidence = Annotated[float, typer.Option("--confidence", help="Of the promises.")]
Correction = Annotated[
    CorrectionChoice,
    typer.Option("--correction", help="How the tests of many rules are corrected."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of the split of the items.")]
Page = Annotated[
    Path | None, typer.Option("--page", help="Write an HTML page with ROC and operating point.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("align")
def align(
    table: Table,
    gate: Annotated[GateChoice, typer.Option("--gate", help="What opens it.")] = GateChoice.AND,
    answer: Annotated[str, typer.Option("--answer", help="Column of answer scores.")] = "answer",
    answer_flags: Annotated[
        Side, typer.Option("--answer-flags", help="below for a reward, above for a probability.")
    ] = Side.BELOW,
    image: Annotated[str, typer.Option("--image", help="Column of image scores.")] = "image",
    label: Label = "unsafe",
    missed: Missed = 0.1,
    false_alarms: Alarms = None,
    confidence: Confidence = 0.95,
    correction: Correction = CorrectionChoice.FIXED,
    seed: Seed = 0,
    page: Page = None,
    json_output: AsJson = False,
) -> None:
    """Find the gate's thresholds for answers and pictures together.

    The promise is about the gate's decision, not about each score. Exit code 1 when nothing can
    be certified.

    Example: tadasu calibrate align world --gate and --missed 0.1
    """
    seen = {} if gate is GateChoice.POST_ONLY else {image: "above"}
    wish = Wish(
        flags={**seen, answer: answer_flags.value}, label=label,
        combine="or" if gate is GateChoice.OR else "and",
        missed=missed, false_alarms=false_alarms, confidence=confidence,
        correction=correction, seed=seed,
    )  # fmt: skip
    _calibrate(_rows(_bundled(table, "alignment-scores.csv")), wish, page, json_output)


@app.command("detector")
def detector(
    table: Table,
    score: Annotated[str, typer.Option("--score", help="Column of the scores.")] = "score",
    flags: Annotated[Side, typer.Option("--flags", help="Which side is flagged.")] = Side.ABOVE,
    label: Label = "unsafe",
    missed: Missed = 0.1,
    false_alarms: Alarms = None,
    confidence: Confidence = 0.95,
    correction: Correction = CorrectionChoice.FIXED,
    seed: Seed = 0,
    page: Page = None,
    json_output: AsJson = False,
) -> None:
    """Find a picture detector's threshold.

    Exit code 1 when nothing can be certified.

    Example: tadasu calibrate detector world --missed 0.1
    """
    wish = Wish(
        flags={score: flags.value}, label=label, missed=missed, false_alarms=false_alarms,
        confidence=confidence, correction=correction, seed=seed,
    )  # fmt: skip
    _calibrate(_rows(_bundled(table, "detector-scores.csv")), wish, page, json_output)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a calibration is asked for.

    Attributes:
        flags: by column of scores, which side of its threshold is flagged.
        label: column with the truth.
        combine: ``and`` or ``or``, with several columns.
        missed: the largest share missed.
        false_alarms: the largest share flagged wrongly; None promises nothing about it.
        confidence: of the promises.
        correction: of many tests.
        seed: of the split.
    """

    flags: dict[str, Any]
    label: str
    combine: Any = "and"
    missed: float
    false_alarms: float | None
    confidence: float
    correction: CorrectionChoice
    seed: int

    def promises(self) -> list[Promise]:
        """What is promised."""
        from tadasu.statistics.risk_control import Promise

        promised = [Promise(risk="missed", limit=self.missed)]
        if self.false_alarms is not None:
            promised.append(Promise(risk="false alarms", limit=self.false_alarms))
        return promised


def _calibrate(
    rows: Sequence[dict[str, Any]], wish: Wish, page: Path | None, json_output: bool
) -> None:
    import numpy as np

    from tadasu.statistics.thresholds import Score, find

    promises = wish.promises()
    truth = np.array([_truth(row, wish.label) for row in rows], dtype=np.bool_)
    scores = [
        Score(name=name, values=np.array([_number(row, name) for row in rows]), flags=side)
        for name, side in wish.flags.items()
    ]
    kind: Any = wish.correction.value.replace("-", " ")
    found = find(
        scores, truth, promises,
        combine=wish.combine, confidence=wish.confidence, correction=kind, seed=wish.seed,
    )  # fmt: skip
    if page is not None:
        _write(page, scores, truth, found, promises, wish.confidence)
    if json_output:
        print_json(_document(scores, found, promises, wish))
    else:
        _print(scores, found, promises, wish)
    raise typer.Exit(int(found.thresholds is None))


def _bundled(given: str, file: str) -> str:
    """The bundled table for ``world``, else what was given."""
    if given != "world":
        return given
    from tadasu import world

    return str(Path(world.__file__).parent / "suites" / "alignment" / file)


def _rows(given: str) -> list[dict[str, Any]]:
    from tadasu.evaluation.suites.table import rows

    path = Path(given)
    found = rows(path)
    if not found:
        raise BadFile(f"{shown(path, 300)} has no rows.")
    return found


def _value(row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise BadInput(
            f"There is no column {shown(column)}; the table has {shown(', '.join(row), 300)}."
        )
    return row[column]


def _number(row: dict[str, Any], column: str) -> float:
    value = _value(row, column)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{shown(value)} in column {shown(column)} is no number; leave unscored items out."
        ) from error


def _truth(row: dict[str, Any], column: str) -> bool:
    value = str(_value(row, column)).strip().lower()
    if value not in YES + NO:
        raise BadInput(f"{shown(value)} in column {shown(column)} is neither true nor false.")
    return value in YES


def _words(promise: Promise) -> tuple[str, str]:
    share = f"{100 * promise.limit:g} %"
    if promise.risk == "missed":
        return f"at most {share} of what should be flagged is missed", f"見逃しは{share}以下"
    return f"at most {share} of the rest is flagged", f"誤検出は{share}以下"


def _write(
    page: Path,
    scores: Sequence[Score],
    truth: Any,
    found: Found,
    promises: Sequence[Promise],
    confidence: float,
) -> None:
    from tadasu.evaluation import calibration_page

    try:
        calibration_page.write(
            page,
            scores,
            truth,
            found,
            title=("Calibrated thresholds", "しきい値の校正"),
            promises=[_words(promise) for promise in promises],
            confidence=confidence,
        )
    except OSError as error:
        raise BadInput(f"Cannot write {shown(page, 300)}: {error}") from error
    messages().print(f"wrote {page}", markup=False)


def _document(
    scores: Sequence[Score], found: Found, promises: Sequence[Promise], wish: Wish
) -> dict[str, Json]:
    names = [score.name for score in scores]
    certificate = found.certificate
    thresholds: dict[str, Json] | None = None
    if found.thresholds is not None:
        thresholds = dict(zip(names, found.thresholds, strict=True))
    rules: list[Json] = [
        {
            "thresholds": dict(zip(names, map(float, row), strict=True)),
            "p_value": float(p),
            "certified": bool(passed),
        }
        for row, p, passed in zip(
            found.candidates, certificate.p_values, certificate.certified, strict=True
        )
    ]
    limits: list[Json] = [{"risk": p.risk, "at_most": p.limit} for p in promises]
    return {
        "certified": found.thresholds is not None,
        "thresholds": thresholds,
        "flags": {score.name: score.flags for score in scores},
        "gate": wish.combine,
        "promises": limits,
        "confidence": wish.confidence,
        "correction": wish.correction.value,
        "missed": _interval(certificate.missed),
        "false_alarms": _interval(certificate.false_alarms),
        "tested": {"positive": found.positive, "negative": found.negative},
        "rules": rules,
    }


def _interval(found: Any) -> dict[str, Json] | None:
    if found is None:
        return None
    return {"value": found.estimate, "low": found.low, "high": found.high}


def _print(scores: Sequence[Score], found: Found, promises: Sequence[Promise], wish: Wish) -> None:
    console = results()
    said = " and ".join(_words(promise)[0] for promise in promises)
    counted = f"tested on {found.positive} to flag and {found.negative} others"
    certificate = found.certificate
    if found.thresholds is None or certificate.missed is None or certificate.false_alarms is None:
        console.print(
            f"Nothing can be certified: not that {said}, with {wish.confidence:g} confidence."
        )
        console.print(f"({counted}; give more labelled items, a better score, or a weaker promise)")
        return
    rule = f" {wish.combine} ".join(
        f"{score.name} {'>=' if score.flags == 'above' else '<='} {threshold:.6g}"
        for score, threshold in zip(scores, found.thresholds, strict=True)
    )
    console.print(f"flag where {rule}", markup=False)
    console.print(f"certified with {wish.confidence:g} confidence: {said}", markup=False)
    for name, rate in (("missed", certificate.missed), ("false alarms", certificate.false_alarms)):
        limits = f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
        console.print(f"  {name} {100 * rate.estimate:.1f} % {limits}", markup=False)
    console.print(
        f"({counted}; holds for items drawn like these, not for other traffic or attackers)"
    )
