"""Find guidance rules by name; the list is the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tadasu import naming

if TYPE_CHECKING:
    from tadasu.guidance.rule import Rule

#: The rule for those who do not choose one: adaptive, and cheap where nothing is to be done.
DEFAULT = "presence"
_ROOM = "tadasu.guidance"
#: Files of the folder that are not rules.
_NOT_RULES = frozenset({"rule", "registry"})


def names() -> tuple[str, ...]:
    """The public name of every guidance rule; torch is not imported.

    >>> "sld" in names()
    True
    """
    return naming.names(_ROOM, _NOT_RULES)


def find(name: str) -> type[Rule[Any]]:
    """The class of a rule by its public name.

    Raises:
        UnknownName: there is no rule of that name.
    """

    def belongs(found: type) -> bool:
        from tadasu.guidance.rule import Rule

        return issubclass(found, Rule)

    return naming.find(_ROOM, name, _NOT_RULES, kind="guidance", belongs=belongs)


def parse(text: str) -> Rule[Any]:
    """A rule from ``NAME``, ``NAME:PRESET`` or ``NAME:key=value,…``; see `tadasu.naming.parsed`.

    Raises:
        UnknownName: the rule, preset or key does not exist.
        BadInput: a value is not what its key takes.
    """
    found = naming.parsed(text, find, lambda rule, preset: rule.preset(preset))
    return cast("Rule[Any]", found)
