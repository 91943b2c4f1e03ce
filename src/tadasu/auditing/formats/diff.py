"""Whole changes: ``diff`` and ``diff_b`` (LyCORIS "full"), ``w_norm`` and ``b_norm`` (norm layers).

Yeh et al. (LyCORIS), arXiv 2309.14859. Other formats may carry a ``diff_b`` beside their factors;
it is then read as well.
"""

from __future__ import annotations

from torch import Tensor

from tadasu.auditing.adapter import Dense, Update
from tadasu.auditing.formats.group import Group

TAILS = {
    r"\.diff": "diff",
    r"\.diff_b": "diff_b",
    r"\.w_norm": "w_norm",
    r"\.b_norm": "b_norm",
}
_SUFFIX = {"diff": "", "w_norm": "", "diff_b": ".bias", "b_norm": ".bias"}


def claims(roles: frozenset[str]) -> bool:
    """Any whole change."""
    return bool(roles & set(_SUFFIX))


def build(group: Group) -> dict[str, Update]:
    """One dense update per tensor.

    Raises:
        BadFile: for an empty tensor, or two for one weight.
    """
    built: dict[str, Update] = {}
    for role, suffix in _SUFFIX.items():
        change = group.tensors.get(role)
        if change is None:
            continue
        if suffix in built or change.ndim == 0 or not change.numel():
            raise group.bad(f"has a part {role!r} that cannot be")
        built[suffix] = dense(group, change, "norm" if role.endswith("norm") else "diff")
    return built


def dense(group: Group, change: Tensor, kind: str) -> Dense:
    """A bounded whole change."""
    if not change.is_floating_point():
        raise group.bad("has a change in whole numbers")
    group.bounded(1.0, change)
    return Dense(change=change, kind=kind)
