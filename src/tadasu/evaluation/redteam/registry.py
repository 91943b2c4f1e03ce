"""Find text evasions by name; the list is the folder."""

from __future__ import annotations

from typing import cast

from tadasu import naming
from tadasu.evaluation.redteam.evasion import Evasion

_ROOM = "tadasu.evaluation.redteam"
#: Files of the folder that are not text evasions.
_NOT_EVASIONS = frozenset(
    {"evasion", "registry", "suites", "search", "ring_a_bell", "p4d", "unlearn_diff_atk"}
)


def names() -> tuple[str, ...]:
    """The public name of every text evasion.

    >>> "leet" in names()
    True
    """
    return naming.names(_ROOM, _NOT_EVASIONS)


def find(name: str) -> type[Evasion]:
    """The class of an evasion by its public name.

    Raises:
        UnknownName: there is no evasion of that name.
    """
    return naming.find(
        _ROOM,
        name,
        _NOT_EVASIONS,
        kind="evasion",
        belongs=lambda found: issubclass(found, Evasion),
    )


def parse(text: str) -> Evasion:
    """An evasion from ``NAME`` or ``NAME:key=value,…``.

    >>> parse("leet:share=0.5").share
    0.5

    Raises:
        UnknownName: the evasion or key does not exist.
        BadInput: a value is not what its key takes.
    """
    return cast(Evasion, naming.parsed(text, find))
