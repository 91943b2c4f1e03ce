"""The contract of evaluators, and a check: an evaluator with its threshold.

"Could not tell" is a score in the state ``unscored``, never 0. A check that could not tell counts
as flagged for whoever decides about an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from tadasu.errors import BadInput
from tadasu.records import Json, Score, Verdict

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image

UNSAFE = "unsafe"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a text evaluator reads: a question and its answer, or one of them.

    Attributes:
        question: what the user said; empty where only the answer counts.
        answer: what the model said; empty where the question itself is examined.
    """

    question: str = ""
    answer: str = ""


@runtime_checkable
class TextEvaluator(Protocol):
    """Scores exchanges. An exchange's score must not depend on which others are in its batch."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def score(self, exchanges: Sequence[Exchange]) -> list[Score]:
        """One score for each exchange, in their order."""
        ...


@runtime_checkable
class ImageEvaluator(Protocol):
    """Scores a picture, and says how well texts fit it."""

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def score(self, image: Image) -> list[Score]:
        """One score for each concept that is looked for."""
        ...

    def fits(self, image: Image, texts: Sequence[str]) -> Float[np.ndarray, " text"]:
        """How well each text describes the picture: cosine similarity, -1 to 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Turns a score into the probability that what was scored is unsafe (Platt, 1999).

    Attributes:
        slope: of the score in the logit; negative for a score whose higher values are safer.
        intercept: the logit of a score of 0.

    >>> Calibration(slope=-2.0, intercept=0.0).probability(0.0)
    0.5
    """

    slope: float
    intercept: float

    def probability(self, value: float) -> float:
        """The probability of a score, from 0 to 1."""
        return float(expit(self.slope * value + self.intercept))

    @classmethod
    def fit(cls, values: Sequence[float], unsafe: Sequence[bool]) -> Calibration:
        """The calibration that makes labelled scores most likely.

        Platt's targets keep it finite where the labels are separated without error.

        Raises:
            BadInput: the lists differ in length, a value is not finite, or a kind is missing.
        """
        scores, truth = np.asarray(values, dtype=np.float64), np.asarray(unsafe, dtype=bool)
        if scores.shape != truth.shape or not np.all(np.isfinite(scores)):
            raise BadInput("A calibration needs one label for each finite score.")
        many, few = int(truth.sum()), int((~truth).sum())
        if not many or not few:
            raise BadInput("A calibration needs scores of safe and of unsafe items.")
        target = np.where(truth, (many + 1) / (many + 2), 1 / (few + 2))
        middle, spread = float(scores.mean()), float(scores.std()) or 1.0
        scaled = (scores - middle) / spread

        def loss(parameters: Any) -> float:
            logit = parameters[0] * scaled + parameters[1]
            return -float(np.sum(target * log_expit(logit) + (1 - target) * log_expit(-logit)))

        slope, intercept = minimize(loss, np.zeros(2), method="BFGS").x
        return cls(
            slope=float(slope / spread), intercept=float(intercept - slope * middle / spread)
        )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check said.

    Attributes:
        stage: what was examined: question, image, draft, shallow, deep.
        verdict: the score against its threshold.
        probability: that it is unsafe, where the evaluator is calibrated.
    """

    stage: str
    verdict: Verdict
    probability: float | None = None

    @property
    def flagged(self) -> bool:
        """Whether it counts as unsafe; what could not be told does."""
        return self.verdict.flagged is not False

    @property
    def margin(self) -> float | None:
        """How far the score lies on the unsafe side of its threshold, in its unit."""
        value = self.verdict.score.value
        if value is None:
            return None
        beyond = value - self.verdict.threshold
        return beyond if self.verdict.score.higher_is == "more" else -beyond

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {
            "stage": self.stage,
            **self.verdict.as_json(),
            "margin": self.margin,
            "probability": self.probability,
        }


@dataclass(frozen=True, kw_only=True)
class TextCheck:
    """A text evaluator with its threshold.

    Attributes:
        evaluator: who scores.
        threshold: in the unit of its scores; a score on it is flagged.
        calibration: where there is one.
    """

    evaluator: TextEvaluator
    threshold: float
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Refuse a threshold that is no number."""
        _finite(self.threshold)

    def examine(self, stage: str, exchanges: Sequence[Exchange]) -> list[Finding]:
        """One finding for each exchange; a failing evaluator's are unscored, thus flagged."""
        try:
            scores = self.evaluator.score(exchanges)
        except Exception as error:  # whatever goes wrong withholds the answer; nothing is hidden
            scores = [_failed(self.evaluator.name, error)] * len(exchanges)
        if len(scores) != len(exchanges):
            lost = RuntimeError(f"gave {len(scores)} scores for {len(exchanges)} texts")
            scores = [_failed(self.evaluator.name, lost)] * len(exchanges)
        return [_finding(stage, score, self.threshold, self.calibration) for score in scores]


@dataclass(frozen=True, kw_only=True)
class ImageCheck:
    """An image evaluator with its thresholds.

    Attributes:
        evaluator: who scores.
        threshold: in the unit of its scores; a score on it is flagged.
        by_concept: other thresholds for single concepts.
        calibration: where there is one.
    """

    evaluator: ImageEvaluator
    threshold: float
    by_concept: Mapping[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Refuse thresholds that are no numbers."""
        for threshold in (self.threshold, *self.by_concept.values()):
            _finite(threshold)

    def examine(self, image: Image) -> list[Finding]:
        """One finding for each concept; a failing evaluator's is unscored, thus flagged."""
        try:
            scores = self.evaluator.score(image)
            if not scores:
                raise RuntimeError("gave no score")
        except Exception as error:  # whatever goes wrong withholds the answer; nothing is hidden
            scores = [_failed(self.evaluator.name, error)]
        return [
            _finding(
                "image",
                score,
                self.by_concept.get(score.concept, self.threshold),
                self.calibration,
            )
            for score in scores
        ]


def scored(
    name: str, concept: str, value: float, unit: str, *, safer: bool = False, note: str = ""
) -> Score:
    """A network's number as a score; unscored when it is no number.

    Args:
        name: who says it.
        concept: what it is about.
        value: the number.
        unit: what it counts.
        safer: whether a higher value means less of the concept.
        note: what the reader should know.
    """
    if not math.isfinite(value):
        return Score.unscored(name, concept, unit, f"the network gave {value}, which is no score")
    return Score(
        detector=name,
        concept=concept,
        value=float(value),
        unit=unit,
        higher_is="less" if safer else "more",
        note=note,
    )


def _finding(
    stage: str, score: Score, threshold: float, calibration: Calibration | None
) -> Finding:
    chance = None
    if calibration is not None and score.value is not None:
        chance = calibration.probability(score.value)
    elif score.unit == "probability" and score.higher_is == "more":
        chance = score.value
    return Finding(stage=stage, verdict=score.against(threshold), probability=chance)


def _failed(name: str, error: Exception) -> Score:
    reason = " ".join(str(error).split())
    return Score.unscored(name, UNSAFE, "none", f"failed: {type(error).__name__}: {reason}")


def _finite(threshold: float) -> None:
    if not math.isfinite(threshold):
        raise BadInput(f"A threshold is a finite number; got {threshold}.")
