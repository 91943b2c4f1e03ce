"""Find guidance rules by name; the list is the folder."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, get_type_hints

from tadasu.errors import BadInput, UnknownName, shown

if TYPE_CHECKING:
    from tadasu.guidance.rule import Rule

#: The rule for those who do not choose one: adaptive, and cheap where nothing is to be done.
DEFAULT = "presence"
#: Files of the folder that are not rules.
_NOT_RULES = frozenset({"rule", "registry"})


def names() -> tuple[str, ...]:
    """The public name of every guidance rule; torch is not imported.

    >>> "sld" in names()
    True
    """
    package = importlib.import_module("tadasu.guidance")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(sorted(name for name in found if name not in _NOT_RULES))


def find(name: str) -> type[Rule[Any]]:
    """The class of a rule by its public name.

    Raises:
        UnknownName: there is no rule of that name.
    """
    if name not in names():
        raise UnknownName("guidance", name, names())
    from tadasu.guidance.rule import Rule

    module = importlib.import_module(f"tadasu.guidance.{name}")
    classes = [
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Rule)
        and member.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must define exactly one rule, not {len(classes)}")
    return classes[0]


def parse(text: str) -> Rule[Any]:
    """A rule from ``NAME``, ``NAME:PRESET`` or ``NAME:key=value,…``.

    A preset comes first if it is given; the keys after it change it: ``sld:strong,warmup=0.1``,
    or in full ``sld:preset=strong,warmup=0.1``.

    Raises:
        UnknownName: the rule, preset or key does not exist.
        BadInput: a value is not what its key takes.
    """
    name, _, rest = text.strip().partition(":")
    rule = find(name.strip())
    values: dict[str, Any] = {}
    for position, item in enumerate(part.strip() for part in rest.split(",") if part.strip()):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals and position == 0:
            key, value = "preset", key
        elif not equals:
            raise BadInput(f"{shown(text)}: {shown(item)} is not key=value.")
        if key == "preset":
            values = dataclasses.asdict(rule.preset(value)) | values
        else:
            values[key] = _read(rule, key, value)
    return rule(**values)


def _read(rule: type[Rule[Any]], key: str, value: str) -> float | int | bool | str:
    """One parameter, read as the type that its field declares."""
    known = {field.name for field in dataclasses.fields(rule)}
    if key not in known:
        raise UnknownName(f"parameter of {rule.name}", key, {*known, "preset"})
    kind = get_type_hints(rule)[key]
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if kind is bool:
        if value.lower() not in words:
            raise BadInput(f"{rule.name}: {key}={shown(value)} must be true or false.")
        return words[value.lower()]
    if kind is str:
        return value
    if kind not in (int, float):
        raise BadInput(f"{rule.name}: {key} is not a number or a word; set it in Python.")
    try:
        number: float | int = kind(value)
    except ValueError as error:
        article = "a whole number" if kind is int else "a number"
        raise BadInput(f"{rule.name}: {key}={shown(value)} must be {article}.") from error
    return number
