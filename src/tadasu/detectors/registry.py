"""Which detectors there are; the list is the folder."""

from __future__ import annotations

from tadasu import naming

#: Files of the folder that are not detectors.
_NOT_DETECTORS = frozenset(
    {
        "card",
        "dense",
        "detector",
        "folding",
        "images",
        "inflection",
        "japanese",
        "lookalike",
        "registry",
        "repair",
        "spelling",
        "trie",
        "views",
    }
)


def names() -> tuple[str, ...]:
    """The public name of every detector, of pictures and of texts; torch is not imported.

    >>> "judge" in names()
    True
    """
    return naming.names("tadasu.detectors", _NOT_DETECTORS)
