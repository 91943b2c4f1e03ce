"""Find solvers by name; the list is the folder."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any, Protocol

from tadasu.errors import BadInput, UnknownName, shown

#: Files of the folder that are not solvers.
_NOT_SOLVERS = frozenset(
    {
        "artefact",
        "balance",
        "check",
        "context_map",
        "edit",
        "encoder",
        "gated_map",
        "layer_map",
        "make",
        "metric",
        "models",
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
    package = importlib.import_module("tadasu.editing")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name not in _NOT_SOLVERS))


def find(name: str) -> type[Any]:
    """The class of a solver by its public name.

    Raises:
        UnknownName: there is no solver of that name.
    """
    if name not in names():
        raise UnknownName("solver", name, names())
    module = importlib.import_module(f"tadasu.editing.{name}")
    classes = [
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and hasattr(member, "solve")
        and member.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must define exactly one solver, not {len(classes)}")
    return classes[0]


def parse(text: str) -> Any:
    """A solver from ``NAME``, ``NAME:PRESET`` or ``NAME:key=number,…``.

    >>> parse("cure:alpha=5").alpha
    5.0
    >>> parse("uce:v2").reading.tokens
    'last'

    Raises:
        UnknownName: the solver, preset or key does not exist.
        BadInput: a value is not a number.
    """
    name, _, rest = text.strip().partition(":")
    made = find(name)
    solver = made()
    for position, item in enumerate(part.strip() for part in rest.split(",") if part.strip()):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals and position == 0:
            solver = _preset(made, name, key)
        else:
            solver = dataclasses.replace(solver, **{key: _number(solver, name, key, value)})
    return solver


def presets(name: str) -> tuple[str, ...]:
    """The presets of a solver, for example the published forms of ``uce``."""
    return tuple(getattr(find(name), "presets", ()))


def _preset(made: type[Any], name: str, preset: str) -> Any:
    known = getattr(made, "presets", ())
    if preset not in known:
        raise UnknownName(f"preset of {name}", preset, known)
    return getattr(made, preset)()


def _number(solver: Any, name: str, key: str, value: str) -> float | int:
    known = {
        field.name: type(getattr(solver, field.name))
        for field in dataclasses.fields(solver)
        if isinstance(getattr(solver, field.name), (int, float))
    }
    if key not in known:
        raise UnknownName(f"parameter of {name}", key, known)
    try:
        number: float | int = known[key](value)
    except ValueError as error:
        raise BadInput(f"{name}: {key}={shown(value)} must be a number.") from error
    return number
