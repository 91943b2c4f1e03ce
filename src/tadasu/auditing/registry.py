"""Find audit signals by name; the list is the folder."""

from __future__ import annotations

from tadasu import naming

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
        "names_transformers",
        "read",
        "registry",
    }
)


def names() -> tuple[str, ...]:
    """The public name of every signal; torch is not imported.

    >>> names()
    ('decoys', 'first_order', 'interrogation', 'lineage', 'noise', 'probe', 'text_direction')
    """
    return naming.names("tadasu.auditing", _NOT_SIGNALS)
