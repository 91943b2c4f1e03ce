"""Edits: stored changes of what text means to a model, solved once and undone exactly.

Every solver is one file of this folder; ``names()`` lists them without importing torch. Other names
are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from tadasu.editing.registry import find, names, parse

__all__ = ["find", "names", "parse"]

_ELSEWHERE = {
    "ContextMap": "context_map",
    "Edit": "edit",
    "GatedMap": "gated_map",
    "Kept": "problem",
    "Moment": "prior",
    "Prior": "prior",
    "Problem": "problem",
    "Reading": "problem",
    "Target": "targets",
    "assemble": "problem",
    "check": "check",
    "load": "artefact",
    "save": "artefact",
}


def __getattr__(name: str) -> Any:
    """Import a public name or a solver's class the first time somebody asks for it."""
    if name in _ELSEWHERE:
        module = importlib.import_module(f"tadasu.editing.{_ELSEWHERE[name]}")
        return getattr(module, name)
    if not name.startswith("_") and name[0].isupper():
        for found in map(find, names()):
            if found.__name__ == name:
                globals()[name] = found
                return found
    raise AttributeError(f"module 'tadasu.editing' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, with the classes of the solvers."""
    return sorted({*globals(), *_ELSEWHERE, *(find(name).__name__ for name in names())})
