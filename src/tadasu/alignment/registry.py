"""Find alignment methods by name; the list is the folder."""

from __future__ import annotations

import importlib
import pkgutil

#: Files of the folder that are not methods.
_NOT_METHODS = frozenset(
    {
        "aligned",
        "deep",
        "engine",
        "evaluators",
        "fetch",
        "gate",
        "intake",
        "method",
        "opening",
        "record",
        "registry",
        "scripted",
        "sentences",
    }
)


def names() -> tuple[str, ...]:
    """The public name of every alignment method; torch is not imported."""
    package = importlib.import_module("tadasu.alignment")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name not in _NOT_METHODS))
