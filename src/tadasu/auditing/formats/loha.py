"""LoHa: ``ΔW = (alpha / rank) · (a₁ b₁) ∘ (a₂ b₂)``, entry by entry.

Nam et al. (FedPara), arXiv 2108.06098; Yeh et al. (LyCORIS), arXiv 2309.14859. The product of two
matrices of ranks r₁ and r₂ has rank ≤ r₁ r₂, and its factors are the row-wise and column-wise
Kronecker products; they are used where that is smaller than the weight. ``hada_t1``/``hada_t2`` are
Tucker cores for convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tadasu.auditing.adapter import Down, Up, Update, Weight
from tadasu.auditing.formats.group import ADAPTER, Group

TAILS = {
    rf"\.hada_{part}{ADAPTER}": f"hada_{part}"
    for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Hadamard(Update):
    """The entry-wise product of two factored matrices.

    Args:
        first: ``a₁`` and ``b₁``.
        second: ``a₂`` and ``b₂``.
        scale: alpha / rank.
        shape: the base weight's shape.
        kind: the format's name.
    """

    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    scale: float
    shape: tuple[int, ...]
    kind: str = "loha"

    def delta(self, weight: Weight | None = None) -> Weight:
        """Both products, multiplied."""
        left = self.first[0].float() @ self.first[1].float()
        right = self.second[0].float() @ self.second[1].float()
        return (left * right * self.scale).reshape(self.shape)

    def factors(self) -> tuple[Up, Down] | None:
        """Row-wise and column-wise Kronecker products, where they are smaller than the weight."""
        (a1, b1), (a2, b2) = self.first, self.second
        rank = a1.shape[1] * a2.shape[1]
        if rank >= min(a1.shape[0], b1.shape[1]):
            return None
        up = torch.einsum("op,oq->opq", a1.float(), a2.float()).reshape(a1.shape[0], rank)
        down = torch.einsum("pi,qi->pqi", b1.float(), b2.float()).reshape(rank, b1.shape[1])
        return up * self.scale, down


def claims(roles: frozenset[str]) -> bool:
    """All four factors."""
    return {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= roles


def build(group: Group) -> dict[str, Update]:
    """One entry-wise product.

    Raises:
        BadFile: when the factors do not fit.
    """
    first, kernel = _half(group, "1")
    second, other = _half(group, "2")
    scale = group.scale(int(group.tensors["hada_w1_b"].shape[0]))
    group.scale(int(group.tensors["hada_w2_b"].shape[0]))
    sizes = {(int(up.shape[0]), int(down.shape[1])) for up, down in (first, second)}
    if len(sizes) != 1 or kernel != other:
        raise group.bad("has two products of different shapes")
    group.bounded(scale, *first, *second)
    outputs, columns = sizes.pop()
    shape = group.sized((outputs, columns // max(1, torch.Size(kernel).numel()), *kernel))
    return {"": Hadamard(first=first, second=second, scale=scale, shape=shape)}


def _half(group: Group, which: str) -> tuple[tuple[Tensor, Tensor], tuple[int, ...]]:
    """Up, down and kernel of one of the two products."""
    up, down = group.matrix(f"hada_w{which}_a"), group.matrix(f"hada_w{which}_b")
    core = group.tensors.get(f"hada_t{which}")
    if core is None:
        if up.shape[1] != down.shape[0]:
            raise group.bad("has factors that do not fit")
        return (up, down), tuple(group.tensors[f"hada_w{which}_b"].shape[2:])
    return tucker(group, core, up, down)


def tucker(
    group: Group, core: Tensor, up: Tensor, down: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[int, ...]]:
    """A core with its two modes: ``up`` (rank, outputs) and ``down`` (rank, inputs), as factors."""
    fits = core.ndim >= 3 and 0 not in core.shape
    if not fits or core.shape[:2] != (up.shape[0], down.shape[0]):
        raise group.bad(f"has a core of shape {tuple(core.shape)}, which does not fit")
    group.sized((int(core.shape[0]), int(down.shape[1]), *core.shape[2:]))
    joined = torch.einsum("ij...,jr->ir...", core.float(), down.float())
    return (up.T.contiguous(), joined.reshape(core.shape[0], -1)), tuple(core.shape[2:])
