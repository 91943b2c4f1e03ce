"""Public names of methods: a method is called what its file is called, and the list is the folder.

Each room's ``registry`` says which files of its folder are no methods, and what a method is.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Collection
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tadasu.errors import BadInput, UnknownName, imported, shown

_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def names(package: str, others: Collection[str]) -> tuple[str, ...]:
    """The public names of a folder's methods, in alphabetical order; no method is imported.

    Args:
        package: dotted name of the folder.
        others: files of the folder that are no methods.
    """
    found = importlib.import_module(package).__path__
    return tuple(sorted({module.name for module in pkgutil.iter_modules(found)} - set(others)))


def find(
    package: str, name: str, others: Collection[str], *, kind: str, belongs: Callable[[type], bool]
) -> type[Any]:
    """The class of a method by its public name.

    Args:
        package: dotted name of the folder.
        name: of the method.
        others: files of the folder that are no methods.
        kind: what a method is called in messages, for example ``"guidance"``.
        belongs: whether a class is a method; each file defines exactly one.

    Raises:
        UnknownName: there is no method of that name.
    """
    known = names(package, others)
    if name not in known:
        raise UnknownName(kind, name, known)
    module = imported(f"{package}.{name}")
    own = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and member.__module__ == module.__name__ and belongs(member)
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one {kind}, not {len(own)}")
    return own[0]


def parsed(
    text: str,
    find: Callable[[str], type[Any]],
    preset: Callable[[type[Any], str], Any] | None = None,
) -> Any:
    """A method from ``NAME``, ``NAME:PRESET`` or ``NAME:key=value,…``.

    A preset comes first if it is given; the keys after it change it: ``sld:strong,warmup=0.1``,
    or in full ``sld:preset=strong,warmup=0.1``.

    Args:
        text: as above.
        find: the class of a name, a dataclass.
        preset: the class's preset of a name; None where methods have none.

    Raises:
        UnknownName: the method, preset or key does not exist.
        BadInput: a value is not what its key takes.
    """
    name, _, rest = text.strip().partition(":")
    made = find(name.strip())
    base, values = None, {}
    for position, item in enumerate(part.strip() for part in rest.split(",") if part.strip()):
        key, equals, value = (part.strip() for part in item.partition("="))
        if preset and (key == "preset" or (not equals and position == 0)):
            base = preset(made, value if equals else key)
        elif not equals:
            raise BadInput(f"{shown(text)}: {shown(item)} is not key=value.")
        else:
            values[key] = _read(made, name.strip(), key, value)
    return made(**values) if base is None else dataclasses.replace(base, **values)


def _read(made: type[Any], name: str, key: str, value: str) -> float | int | bool | str:
    """One parameter, read as the type that its field declares."""
    known = {field.name for field in dataclasses.fields(made)}
    if key not in known:
        raise UnknownName(f"parameter of {name}", key, known)
    kind = get_type_hints(made)[key]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UnknownName(f"{key} of {name}", value, get_args(kind))
        return value
    if kind is bool:
        if value.lower() not in _BOOLS:
            raise BadInput(f"{name}: {key}={shown(value)} must be true or false.")
        return _BOOLS[value.lower()]
    if kind is str:
        return value
    if kind not in (int, float):
        raise BadInput(f"{name}: {key} is not a number or a word; set it in Python.")
    try:
        number: float | int = kind(value)
    except ValueError as error:
        article = "a whole number" if kind is int else "a number"
        raise BadInput(f"{name}: {key}={shown(value)} must be {article}.") from error
    return number
