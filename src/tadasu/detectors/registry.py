"""Which detectors there are; the list is the folder."""

from __future__ import annotations

import importlib
import pkgutil

#: Files of the folder that are not detectors.
_NOT_DETECTORS = frozenset(
    {"card", "detector", "folding", "images", "inflection", "registry", "repair"}
)


def names() -> tuple[str, ...]:
    """The public name of every detector, of pictures and of texts; torch is not imported.

    >>> "judge" in names()
    True
    """
    package = importlib.import_module("tadasu.detectors")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name not in _NOT_DETECTORS))
