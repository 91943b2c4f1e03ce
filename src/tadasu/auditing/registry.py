"""Find audit signals by name; the list is the folder."""

from __future__ import annotations

import importlib
import pkgutil

#: Files of the folder that are not signals: contracts, readers, what concludes and what reports.
_NOT_SIGNALS = frozenset(
    {
        "adapter",
        "bank",
        "base",
        "cascade",
        "checkpoint",
        "configuration",
        "containers",
        "decide",
        "embedding",
        "families",
        "findings",
        "formats",
        "isolation_forest",
        "lineage_index",
        "merge",
        "metadata",
        "names",
        "names_original",
        "read",
        "registry",
    }
)


def names() -> tuple[str, ...]:
    """The public name of every signal; torch is not imported.

    >>> names()
    ('first_order', 'interrogation', 'lineage', 'probe', 'text_direction')
    """
    package = importlib.import_module("tadasu.auditing")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name not in _NOT_SIGNALS))
