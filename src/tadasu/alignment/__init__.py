"""Alignment: evaluate a vision-language model's answer, then correct it.

Names are imported when they are first used. Methods are ``eta`` and ``ecso``; an engine is a local
model, a server, or a script.
"""

from __future__ import annotations

from typing import Any

from tadasu.alignment.registry import names
from tadasu.errors import imported

__all__ = ["names"]

_ELSEWHERE = {
    "Aligned": "aligned",
    "Answer": "record",
    "BestOfN": "deep",
    "Calibration": "evaluators.evaluator",
    "Engine": "engine",
    "EvaluatingThenAligning": "eta",
    "Evaluators": "aligned",
    "Exchange": "evaluators.evaluator",
    "EyesClosedSafetyOn": "ecso",
    "Gate": "gate",
    "ImageCheck": "evaluators.evaluator",
    "Message": "engine",
    "Parts": "method",
    "Request": "engine",
    "Scripted": "scripted",
    "TextCheck": "evaluators.evaluator",
}


def __getattr__(name: str) -> Any:
    """Import a public name the first time somebody asks for it."""
    if name in _ELSEWHERE:
        module = imported(f"tadasu.alignment.{_ELSEWHERE[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'tadasu.alignment' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for tab completion."""
    return sorted({*globals(), *_ELSEWHERE})
