"""A calibration as one self-contained HTML page, in English and Japanese, with its ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from tadasu.evaluation import written
from tadasu.statistics.intervals import Interval
from tadasu.statistics.roc import auroc, curve
from tadasu.statistics.thresholds import Found, Score

SIDE = 300  # pixels of a plot
EDGE = 36  # pixels around it
COLOURS = ("#2563eb", "#c2410c")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One score's curve.

    Attributes:
        name: of the score.
        colour: of the curve.
        points: as SVG writes them.
        area: under the curve, with its interval.
    """

    name: str
    colour: str
    points: str
    area: Interval


def write(
    path: Path,
    scores: Sequence[Score],
    positive: np.ndarray,
    found: Found,
    *,
    title: tuple[str, str],
    promises: Sequence[tuple[str, str]],
    confidence: float,
) -> None:
    """Writes the page; it appears whole or not at all.

    Args:
        path: of the page.
        scores: what was calibrated.
        positive: the truth; shape (item).
        found: the calibration.
        title: in English and Japanese.
        promises: in English and Japanese.
        confidence: of the promises.
    """
    import jinja2

    source = resources.files("tadasu.evaluation").joinpath("calibration.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    tested, truth = found.tested, positive[found.tested]
    lines = [line(score, tested, truth, colour)
             for score, colour in zip(scores, COLOURS * len(scores), strict=False)]  # fmt: skip
    certificate = found.certificate
    point = None
    if certificate.missed is not None and certificate.false_alarms is not None:
        point = place(certificate.false_alarms.estimate, 1 - certificate.missed.estimate)
    text = environment.from_string(source).render(
        title=title,
        promises=promises,
        confidence=confidence,
        lines=lines,
        point=point,
        scores=[score.name for score in scores],
        thresholds=found.thresholds,
        found=found,
        certificate=certificate,
        side=SIDE,
        edge=EDGE,
    )
    written.write(path, text)


def line(score: Score, tested: np.ndarray, truth: np.ndarray, colour: str) -> Line:
    """The curve of one score on the tested items."""
    values = score.values[tested] if score.flags == "above" else -score.values[tested]
    points = curve(values, truth.astype(int))
    pairs = zip(points.false_positives, points.true_positives, strict=True)
    return Line(
        name=score.name,
        colour=colour,
        points=" ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in pairs),
        area=auroc(values, truth.astype(int)),
    )


def place(false_positives: float, true_positives: float) -> tuple[float, float]:
    """Where a point of the curve lies in the picture, in pixels from the left and the top.

    >>> place(0.0, 1.0)
    (36.0, 36.0)
    """
    return EDGE + SIDE * float(false_positives), EDGE + SIDE * (1 - float(true_positives))
