"""Suites × systems × judges -> results -> report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tadasu.errors import imported

if TYPE_CHECKING:
    from tadasu.evaluation.evaluate import rejudge as rejudge
    from tadasu.evaluation.evaluate import run as run
    from tadasu.evaluation.judge import Card as Card
    from tadasu.evaluation.judge import Judge as Judge
    from tadasu.evaluation.results import Run as Run
    from tadasu.evaluation.suites.registry import find as suite
    from tadasu.evaluation.suites.suite import Prompt as Prompt
    from tadasu.evaluation.suites.suite import Suite as Suite
    from tadasu.evaluation.system import System as System

#: Where each public name lives.
_EXPORTS = {
    "Card": ("judge", "Card"),
    "Judge": ("judge", "Judge"),
    "Prompt": ("suites.suite", "Prompt"),
    "Run": ("results", "Run"),
    "Suite": ("suites.suite", "Suite"),
    "System": ("system", "System"),
    "rejudge": ("evaluate", "rejudge"),
    "run": ("evaluate", "run"),
    "suite": ("suites.registry", "find"),
}
__all__ = ["Card", "Judge", "Prompt", "Run", "Suite", "System", "rejudge", "run", "suite"]


def __getattr__(name: str) -> object:
    """Import a public name the first time somebody asks for it."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tadasu.evaluation' has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    found: object = getattr(imported(f"tadasu.evaluation.{module}"), attribute)
    globals()[name] = found
    return found
