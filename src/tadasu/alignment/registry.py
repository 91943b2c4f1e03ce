"""Find alignment methods by name; the list is the folder."""

from __future__ import annotations

from tadasu import naming

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
        "spoken",
    }
)


def names() -> tuple[str, ...]:
    """The public name of every alignment method; torch is not imported."""
    return naming.names("tadasu.alignment", _NOT_METHODS)
