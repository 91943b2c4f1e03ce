"""Weights that a file carries whole, to stand in the base's place.

ComfyUI's ``set_weight``, and what peft saves of modules that were trained without factors
(``modules_to_save``, and biases where its ``bias`` option says so): ``ΔW = W' − W``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tadasu.auditing.adapter import Update, Weight, checked_weight, stacked
from tadasu.auditing.formats.group import Group

TAILS = {
    r"\.set_weight": "set",
    r"\.modules_to_save(?:\.(?!weight\Z|bias\Z)[\w-]+)?\.weight": "set",
    r"\.modules_to_save(?:\.(?!weight\Z|bias\Z)[\w-]+)?\.bias": "set_bias",
}
_SUFFIX = {"set": "", "set_bias": ".bias"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Set(Update):
    """A weight in the place of the base's.

    Args:
        value: the new weight.
        shape: the base weight's shape; that of ``value`` when left out.
        kind: the format's name.
    """

    value: Tensor
    shape: tuple[int, ...] = ()
    kind: str = "whole"
    needs_weight: bool = True

    def __post_init__(self) -> None:
        """Take the shape from the value."""
        object.__setattr__(self, "shape", tuple(self.shape) or tuple(self.value.shape))

    def delta(self, weight: Weight | None = None) -> Weight:
        """The new weight less the base's."""
        base = checked_weight(weight, self.shape, self.kind)
        changed: Tensor = self.value.float().reshape(self.shape) - base
        return changed

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Update:
        """The same rows of the value."""
        value = stacked(self.value, pieces)
        return replace(self, value=value, shape=(int(value.shape[0]), *self.shape[1:]))


def claims(roles: frozenset[str]) -> bool:
    """Any whole weight."""
    return bool(roles & set(_SUFFIX))


def build(group: Group) -> dict[str, Update]:
    """One update per tensor.

    Raises:
        BadFile: for an empty tensor, or one beside other roles that change the same weight.
    """
    if set(group.tensors) - {*_SUFFIX, "alpha"}:
        raise group.bad("carries its weight whole beside another change of it")
    built: dict[str, Update] = {}
    for role, suffix in _SUFFIX.items():
        value = group.tensors.get(role)
        if value is None:
            continue
        if value.ndim == 0 or not value.numel() or not value.is_floating_point():
            raise group.bad("carries a whole weight that cannot be one")
        group.bounded(1.0, value)
        built[suffix] = Set(value=value)
    return built
