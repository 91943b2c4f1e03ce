"""File formats: from the tensors of one module to the update of its weights.

One format is one file. It has ``TAILS`` (what its tensors' names end with, as patterns, and the
role each plays), ``claims(roles)`` (whether a module with these roles is its own) and
``build(group)`` (the updates, by ``""`` for the weight and ``".bias"``). A new file in this folder
is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType

from tadasu.auditing.adapter import Update
from tadasu.auditing.formats.group import Group
from tadasu.errors import BadFile, shown

#: Files of this folder that are no format.
CONTRACT = frozenset({"group", "principal", "unread"})
#: The role that every format may read.
_SHARED = frozenset({"alpha"})
#: Characters at a name's end in which its role is looked for.
_LONGEST_TAIL = 64


@cache
def formats() -> Mapping[str, ModuleType]:
    """Every format by its name; those that wrap others come first."""
    found = {
        info.name: importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if info.name not in CONTRACT
    }
    return dict(sorted(found.items(), key=lambda item: (not hasattr(item[1], "WRAPS"), item[0])))


@cache
def _tails() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile(rf"(?:{tail})\Z"), role)
        for module in formats().values()
        for tail, role in module.TAILS.items()
    )


def role_of(key: str) -> tuple[str, str] | None:
    """A tensor's module and role; None when no format knows such a name.

    >>> role_of("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight")
    ('lora_te_text_model_encoder_layers_0_mlp_fc1', 'up')
    >>> role_of("unet.conv_in.weight") is None
    True
    """
    for pattern, role in _tails():
        match = pattern.search(key, max(0, len(key) - _LONGEST_TAIL))
        if match is not None:
            return key[: match.start()], role
    return None


def grouped(keys: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module and role, and the names that no format knows.

    Raises:
        BadFile: when a module has two tensors for one role.
    """
    modules: dict[str, dict[str, str]] = {}
    rest: list[str] = []
    for key in keys:
        found = role_of(key)
        if found is None:
            rest.append(key)
            continue
        module, role = found
        if role in modules.setdefault(module, {}):
            raise BadFile(f"Module {shown(module)} has two tensors that play the part {role!r}.")
        modules[module][role] = key
    for key in [key for key in rest if key.endswith(".weight")]:  # (IA)³ as LyCORIS writes it
        roles = modules.get(key.removesuffix(".weight"), {})
        if "on_input" in roles and "channels" not in roles:
            roles["channels"] = key
            rest.remove(key)
    return modules, rest


def build(group: Group) -> dict[str, Update]:
    """The updates of one module, by what is put behind its name.

    Several formats may share a module as long as they change different weights of it, for example
    factors with a whole change of the bias. A tensor that none of them reads refuses the module:
    it would change what the others say.

    Raises:
        BadFile: when its tensors are no format's, or do not fit each other.
    """
    roles = frozenset(group.tensors)
    claiming = [module for module in formats().values() if module.claims(roles)]
    if claiming and hasattr(claiming[0], "WRAPS"):
        wrapped: dict[str, Update] = claiming[0].build(group)
        return wrapped
    owned = {module.__name__: _roles(module) & roles for module in claiming}
    left = roles - _SHARED - frozenset[str]().union(*owned.values())
    if not claiming or left:
        what = "it has only" if not claiming else "no format reads its"
        parts = ", ".join(sorted(left or roles))
        raise BadFile(f"Module {shown(group.module)} is incomplete: {what} {parts}.")
    built: dict[str, Update] = {}
    for module in claiming:
        found = module.build(group.only(owned[module.__name__] | _SHARED))
        twice = set(found) & set(built)
        if twice:
            raise BadFile(f"Module {shown(group.module)} changes one weight in two ways.")
        built |= found
    return built


def _roles(module: ModuleType) -> frozenset[str]:
    """The roles a format reads beside alpha."""
    own = frozenset(module.TAILS.values()) - _SHARED
    return own | {"channels"} if "on_input" in own else own
