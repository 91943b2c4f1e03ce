"""``evaluator.json``: how to read an answer evaluator's numbers, kept beside its weights.

All keys are optional::

    {
      "threshold": 0.0,
      "instruction": null,
      "unsafe": ["harmful"],
      "slope": -1.2,
      "intercept": 0.3
    }

``threshold`` is the score on which an answer is flagged, ``instruction`` takes the place of the
user's question, ``unsafe`` names the labels of a guard classifier, and ``slope`` with
``intercept`` turn a score into the probability that an answer is unsafe. Other keys (how it was
calibrated, data, licence) are for readers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadasu.alignment.evaluators.evaluator import Calibration
from tadasu.errors import BadFile, shown

FILE = "evaluator.json"


@dataclass(frozen=True, kw_only=True)
class EvaluatorCard:
    """How to read an answer evaluator.

    Attributes:
        threshold: the score on which an answer is flagged; None when it says none.
        instruction: takes the place of the user's question; None shows the question.
        unsafe: labels of a guard classifier that count as unsafe.
        calibration: where there is one.
    """

    threshold: float | None = None
    instruction: str | None = None
    unsafe: tuple[str, ...] = ()
    calibration: Calibration | None = None

    @classmethod
    def beside(cls, folder: Path) -> EvaluatorCard:
        """Reads the card in a model's folder; a folder without one has an empty card.

        Raises:
            BadFile: the card is there and cannot be understood.
        """
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            slope, intercept = content.get("slope"), content.get("intercept")
            calibration = None
            if slope is not None and intercept is not None:
                calibration = Calibration(slope=_number(slope), intercept=_number(intercept))
            threshold, instruction = content.get("threshold"), content.get("instruction")
            if instruction is not None and not isinstance(instruction, str):
                raise ValueError("instruction must be a text")
            return cls(
                threshold=None if threshold is None else _number(threshold),
                instruction=instruction,
                unsafe=tuple(str(label) for label in content.get("unsafe", ())),
                calibration=calibration,
            )
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise BadFile(f"{shown(path, 300)} cannot be understood: {error}.") from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} must be a finite number")
    return float(value)
