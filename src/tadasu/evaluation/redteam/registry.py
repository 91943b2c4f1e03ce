"""Find text evasions by name; the list is the folder."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any, get_type_hints

from tadasu.errors import BadInput, UnknownName, shown
from tadasu.evaluation.redteam.evasion import Evasion

#: Files of the folder that are not text evasions.
_NOT_EVASIONS = frozenset(
    {"evasion", "registry", "suites", "search", "ring_a_bell", "p4d", "unlearn_diff_atk"}
)


def names() -> tuple[str, ...]:
    """The public name of every text evasion.

    >>> "leet" in names()
    True
    """
    package = importlib.import_module("tadasu.evaluation.redteam")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name not in _NOT_EVASIONS))


def find(name: str) -> type[Evasion]:
    """The class of an evasion by its public name.

    Raises:
        UnknownName: there is no evasion of that name.
    """
    if name not in names():
        raise UnknownName("evasion", name, names())
    module = importlib.import_module(f"tadasu.evaluation.redteam.{name}")
    own = [
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Evasion)
        and member.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one evasion, not {len(own)}")
    return own[0]


def parse(text: str) -> Evasion:
    """An evasion from ``NAME`` or ``NAME:key=value,…``.

    >>> parse("leet:share=0.5").share
    0.5

    Raises:
        UnknownName: the evasion or key does not exist.
        BadInput: a value is not what its key takes.
    """
    name, _, rest = text.partition(":")
    made = find(name.strip())
    kinds = get_type_hints(made)
    known = {field.name: kinds[field.name] for field in dataclasses.fields(made)}
    values: dict[str, Any] = {}
    for item in (part for part in rest.split(",") if part):
        key, equals, value = item.partition("=")
        if not equals:
            raise BadInput(f"{shown(text)}: {shown(item)} is not key=value.")
        if key.strip() not in known:
            raise UnknownName(f"parameter of {name}", key.strip(), known)
        try:
            values[key.strip()] = known[key.strip()](value)
        except ValueError as error:
            raise BadInput(f"{shown(text)}: {shown(item)} must be a number.") from error
    return made(**values)
