"""``evaluator.json``: how to read an answer evaluator's numbers, kept beside its weights.

All keys are optional::

    {
      "threshold": 0.0,
      "instruction": null,
      "unsafe": ["harmful"],
      "reading": "sentences",
      "guard": "llama-guard",
      "labels": ["harmless", "harmful"],
      "address": "http://localhost:8000/classify",
      "model": "guard",
      "slope": -1.2,
      "intercept": 0.3
    }

``threshold`` is the score on which an answer is flagged, ``instruction`` takes the place of the
user's question, ``unsafe`` names the labels of a guard classifier, and ``slope`` with
``intercept`` turn a score into the probability that an answer is unsafe. ``reading`` says whether
answers are read sentence by sentence or as a whole, ``guard`` the kind of a guard model that
writes its verdict. A card may also stand alone, for an evaluator behind a server: ``address`` and
``model`` say where it is, ``labels`` what the places of its probabilities mean. Other keys (how
it was calibrated, data, licence) are for readers.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tadasu.alignment.evaluators.evaluator import Calibration
from tadasu.alignment.evaluators.pieces import Reading
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
        reading: ``"sentences"`` or ``"whole"``; None for what suits the kind of evaluator.
        guard: the kind of a guard model; empty to tell it by its chat template.
        labels: what the places of a server's probabilities mean.
        address: of an evaluator behind a server; empty for weights in a folder.
        model: its name at the server.
    """

    threshold: float | None = None
    instruction: str | None = None
    unsafe: tuple[str, ...] = ()
    calibration: Calibration | None = None
    reading: Reading | None = None
    guard: str = ""
    labels: tuple[str, ...] = ()
    address: str = ""
    model: str = ""

    @classmethod
    def beside(cls, folder: Path) -> EvaluatorCard:
        """Reads the card in a model's folder; a folder without one has an empty card.

        Raises:
            BadFile: the card is there and cannot be understood.
        """
        path = folder / FILE
        return cls.read(path) if path.is_file() else cls()

    @classmethod
    def read(cls, path: Path) -> EvaluatorCard:
        """Reads a card.

        Raises:
            BadFile: it cannot be understood.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            slope, intercept = content.get("slope"), content.get("intercept")
            calibration = None
            if slope is not None and intercept is not None:
                calibration = Calibration(slope=_number(slope), intercept=_number(intercept))
            threshold, reading = content.get("threshold"), content.get("reading")
            if reading not in (None, *get_args(Reading)):
                raise ValueError("reading must be sentences or whole")
            return cls(
                threshold=None if threshold is None else _number(threshold),
                instruction=_text(content, "instruction"),
                unsafe=_texts(content, "unsafe"),
                calibration=calibration,
                reading=reading,
                guard=_text(content, "guard") or "",
                labels=_texts(content, "labels"),
                address=_text(content, "address") or "",
                model=_text(content, "model") or "",
            )
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise BadFile(f"{shown(path, 300)} cannot be understood: {error}.") from error


def _text(content: dict[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be a text")
    return value


def _texts(content: dict[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key, ())
    if isinstance(value, str):
        raise ValueError(f"{key} must be a list of texts")
    return tuple(str(each) for each in value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} must be a finite number")
    return float(value)
