"""LoKr: ``ΔW = scale · kron(w₁, w₂)``, each half whole or itself a product of two factors.

Yeh et al. (LyCORIS), arXiv 2309.14859. The scale is alpha / rank of a factored half, and 1 where
both halves are whole (there is no rank to divide by); peft divides by its configured rank always.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tadasu.auditing.adapter import Down, Up, Update, Weight
from tadasu.auditing.formats.group import ADAPTER, Group
from tadasu.auditing.formats.loha import tucker

TAILS = {
    rf"\.lokr_{part}{ADAPTER}": f"lokr_{part}"
    for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
}
#: A half: one matrix, or two whose product it is.
Half = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kronecker(Update):
    """A Kronecker product.

    Args:
        first: the coarse half.
        second: the fine half, kernel axes flattened.
        scale: factor on the product.
        shape: the base weight's shape.
        kind: the format's name.
    """

    first: Half
    second: Half
    scale: float
    shape: tuple[int, ...]
    kind: str = "lokr"

    def delta(self, weight: Weight | None = None) -> Weight:
        """The product, in the base weight's shape."""
        product = torch.kron(_whole(self.first), _whole(self.second))
        return (product * self.scale).reshape(self.shape)

    def factors(self) -> tuple[Up, Down] | None:
        """``kron(u₁, u₂)`` and ``kron(d₁, d₂)``, where they are smaller than the weight."""
        (u1, d1), (u2, d2) = _pair(self.first), _pair(self.second)
        outputs, columns = u1.shape[0] * u2.shape[0], d1.shape[1] * d2.shape[1]
        if u1.shape[1] * u2.shape[1] >= min(outputs, columns):
            return None
        return torch.kron(u1, u2) * self.scale, torch.kron(d1, d2)

    def norm(self, weight: Weight | None = None) -> float:
        """The norm of a Kronecker product is the product of the norms."""
        first, second = _whole(self.first).double(), _whole(self.second).double()
        return abs(self.scale) * float(first.norm()) * float(second.norm())


def _whole(half: Half) -> Tensor:
    return half[0].float() if len(half) == 1 else half[0].float() @ half[1].float()


def _pair(half: Half) -> tuple[Tensor, Tensor]:
    """A half as two factors; a whole one with an identity on its narrower side."""
    if len(half) == 2:
        return half[0].float().contiguous(), half[1].float().contiguous()
    matrix = half[0].float().contiguous()
    if matrix.shape[0] < matrix.shape[1]:
        return torch.eye(matrix.shape[0]), matrix
    return matrix, torch.eye(matrix.shape[1])


def claims(roles: frozenset[str]) -> bool:
    """Both halves in either form."""
    first = "lokr_w1" in roles or {"lokr_w1_a", "lokr_w1_b"} <= roles
    return first and ("lokr_w2" in roles or {"lokr_w2_a", "lokr_w2_b"} <= roles)


def build(group: Group) -> dict[str, Update]:
    """One Kronecker product.

    Raises:
        BadFile: when the halves' factors do not fit.
    """
    first, no_kernel = _half(group, "w1")
    second, kernel = _half(group, "w2")
    if no_kernel:
        raise group.bad("has a coarse half with a kernel")
    ranks = [int(half[1].shape[0]) for half in (first, second) if len(half) == 2]
    rank = max(ranks, default=0) or group.settings.rank or 0
    scale = group.scale(rank) if rank else 1.0
    group.bounded(scale, *first, *second)
    outputs = int(first[0].shape[0]) * int(second[0].shape[0])
    columns = int(first[-1].shape[1]) * int(second[-1].shape[1])
    shape = group.sized((outputs, columns // max(1, torch.Size(kernel).numel()), *kernel))
    return {"": Kronecker(first=first, second=second, scale=scale, shape=shape)}


def _half(group: Group, name: str) -> tuple[Half, tuple[int, ...]]:
    if f"lokr_{name}" in group.tensors:
        return (group.matrix(f"lokr_{name}"),), tuple(group.tensors[f"lokr_{name}"].shape[2:])
    up, down = group.matrix(f"lokr_{name}_a"), group.matrix(f"lokr_{name}_b")
    core = group.tensors.get("lokr_t2") if name == "w2" else None
    if core is not None:
        return tucker(group, core, up, down)
    if up.shape[1] != down.shape[0]:
        raise group.bad("has factors that do not fit")
    return (up, down), tuple(group.tensors[f"lokr_{name}_b"].shape[2:])
