"""Find solvers by name; the list is the folder."""

from __future__ import annotations

from typing import Any, Protocol

from tadasu import naming
from tadasu.errors import UnknownName

_ROOM = "tadasu.editing"
#: Files of the folder that are not solvers.
_NOT_SOLVERS = frozenset(
    {
        "artefact",
        "balance",
        "balance_response",
        "check",
        "choice",
        "context_map",
        "edit",
        "encoder",
        "gated_map",
        "layer_map",
        "limits",
        "make",
        "metric",
        "models",
        "pictures",
        "preview",
        "preview_words",
        "prior",
        "problem",
        "registry",
        "suggest",
        "targets",
        "tokens",
        "words",
    }
)


class Solver(Protocol):
    """What every solver offers; a frozen dataclass of its parameters."""

    @property
    def reading(self) -> Any:
        """How it reads texts (:class:`tadasu.editing.problem.Reading`)."""
        ...

    def solve(self, problem: Any) -> Any:
        """The map of one site."""
        ...


def names() -> tuple[str, ...]:
    """The public name of every solver; torch is not imported.

    >>> names()
    ('conditional', 'cure', 'layer', 'rece', 'speed', 'uce')
    """
    return naming.names(_ROOM, _NOT_SOLVERS)


def find(name: str) -> type[Any]:
    """The class of a solver by its public name.

    Raises:
        UnknownName: there is no solver of that name.
    """
    return naming.find(
        _ROOM, name, _NOT_SOLVERS, kind="solver", belongs=lambda found: hasattr(found, "solve")
    )


def parse(text: str) -> Any:
    """A solver from ``NAME``, ``NAME:PRESET`` or ``NAME:key=value,…``.

    >>> parse("cure:alpha=5").alpha
    5.0
    >>> parse("uce:v2").reading.tokens
    'last'

    Raises:
        UnknownName: the solver, preset or key does not exist.
        BadInput: a value is not what its key takes.
    """
    return naming.parsed(text, find, _preset)


def presets(name: str) -> tuple[str, ...]:
    """The presets of a solver, for example the published forms of ``uce``."""
    return tuple(getattr(find(name), "presets", ()))


def _preset(made: type[Any], preset: str) -> Any:
    known = getattr(made, "presets", ())
    if preset not in known:
        raise UnknownName(f"preset of {made.__name__}", preset, known)
    return getattr(made, preset)()
