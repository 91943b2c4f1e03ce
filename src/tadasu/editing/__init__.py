"""Edits: stored changes of what text means to a model, solved once and undone exactly.

``erase``, ``replace``, ``moderate`` and ``debias`` make an :class:`Edit` of a pipeline. Every
solver is one file of this folder; ``names()`` lists them without importing torch. Other names are
imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tadasu.editing.registry import find, names, parse
from tadasu.errors import imported

if TYPE_CHECKING:
    from tadasu.editing.artefact import load as load
    from tadasu.editing.artefact import save as save
    from tadasu.editing.context_map import ContextMap as ContextMap
    from tadasu.editing.edit import Edit as Edit
    from tadasu.editing.edit import applied as applied
    from tadasu.editing.make import Options as Options
    from tadasu.editing.make import debias as debias
    from tadasu.editing.make import erase as erase
    from tadasu.editing.make import moderate as moderate
    from tadasu.editing.make import replace as replace
    from tadasu.editing.make import solve as solve
    from tadasu.editing.prior import Prior as Prior
    from tadasu.editing.problem import Kept as Kept
    from tadasu.editing.problem import Problem as Problem
    from tadasu.editing.problem import Reading as Reading
    from tadasu.editing.problem import assemble as assemble
    from tadasu.editing.targets import Target as Target

__all__ = ["find", "names", "parse"]

_ELSEWHERE = {
    "ContextMap": "context_map",
    "Edit": "edit",
    "GatedMap": "gated_map",
    "Kept": "problem",
    "LayerMap": "layer_map",
    "Loop": "balance",
    "Moment": "prior",
    "Options": "make",
    "Prior": "prior",
    "Problem": "problem",
    "Reading": "problem",
    "Target": "targets",
    "applied": "edit",
    "assemble": "problem",
    "check_stack": "edit",
    "debias": "make",
    "erase": "make",
    "interference": "edit",
    "load": "artefact",
    "moderate": "make",
    "replace": "make",
    "save": "artefact",
    "solve": "make",
}


def __getattr__(name: str) -> Any:
    """Import a public name or a solver's class the first time somebody asks for it."""
    if name in _ELSEWHERE:
        module = imported(f"tadasu.editing.{_ELSEWHERE[name]}")
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
