"""GLoRA: ``ΔW = (alpha / rank) · (W a₁ a₂ + b₁ b₂)``, a part that reads the base and one that adds.

Chavan et al., arXiv 2306.07967, as LyCORIS trains it (without its bias terms). Two generations of
LyCORIS store the factors in opposite orders: today ``a₁``, ``b₁`` have the rank last; before, they
had it first and the products ran ``W a₂ a₁ + b₂ b₁``. Shapes tell which; where they cannot, the
module is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tadasu.auditing.adapter import Update, Weight, checked_weight, stacked
from tadasu.auditing.formats.group import Group

TAILS = {rf"\.{part}\.weight": part for part in ("a1", "a2", "b1", "b2", "bm")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Generalised(Update):
    """A product with the base's inputs, and a product of its own.

    Args:
        turn: inputs × rank and rank × inputs; None where the file has no such part.
        add: outputs × rank and rank × inputs (kernel flattened); None where it has none.
        scale: alpha / rank.
        shape: the base weight's shape where known, with 0 for what the file leaves open.
        kind: the format's name.
    """

    turn: tuple[Tensor, Tensor] | None
    add: tuple[Tensor, Tensor] | None
    scale: float
    shape: tuple[int, ...]
    kind: str = "glora"

    @property
    def needs_weight(self) -> bool:  # type: ignore[override]
        """Only the part that turns inputs reads the base."""
        return self.turn is not None

    def delta(self, weight: Weight | None = None) -> Weight:
        """Both parts, summed."""
        base = checked_weight(weight, self.shape, self.kind) if self.turn is not None else None
        change = torch.zeros(self.shape)
        if self.add is not None:
            change = change + (self.add[0].float() @ self.add[1].float()).reshape(self.shape)
        if self.turn is not None and base is not None:
            first, second = (factor.float() for factor in self.turn)
            mixed = torch.einsum("oi...,ir,rj->oj...", base, first, second)
            change = change + mixed
        return change * self.scale

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """The added product, where it is all there is."""
        if self.turn is not None or self.add is None:
            return None
        return self.add[0].float() * self.scale, self.add[1].float()

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Update:
        """Outputs can be cut: both parts run over inputs alone."""
        count = sum(end - start for start, end in pieces)
        add = None if self.add is None else (stacked(self.add[0], pieces), self.add[1])
        return replace(self, add=add, shape=(count, *self.shape[1:]))


def claims(roles: frozenset[str]) -> bool:
    """Either part whole."""
    return {"a1", "a2"} <= roles or {"b1", "b2"} <= roles


def build(group: Group) -> dict[str, Update]:
    """One update.

    Raises:
        BadFile: for a half of a part, factors that do not fit, or an order that cannot be told.
    """
    known = {"a1", "a2", "b1", "b2", "alpha"}
    if not set(group.tensors) <= known or "b1" not in group.tensors:
        raise group.bad("is a GLoRA with a core or without the part that adds; it is not read")
    later = _rank_last(group)
    add, kernel = _pair(group, "b", later)
    turn = _pair(group, "a", later)[0] if {"a1", "a2"} & set(group.tensors) else None
    rank = int(add[1].shape[0])
    scale = group.scale(rank)
    group.bounded(scale, *add)
    inputs = int(add[1].shape[1]) // max(1, torch.Size(kernel).numel())
    shape = group.sized((int(add[0].shape[0]), inputs, *kernel))
    if turn is not None and not turn[0].shape[0] == turn[1].shape[1] == inputs:
        raise group.bad("has GLoRA factors that do not fit each other")
    return {"": Generalised(turn=turn, add=add, scale=scale, shape=shape)}


def _rank_last(group: Group) -> bool:
    """Whether ``b₁`` is (outputs, rank) as today, instead of (rank, inputs) as before."""
    first, second = group.matrix("b1"), group.matrix("b2")
    today = first.shape[1] == second.shape[0]
    before = second.shape[1] == first.shape[0]
    if {"a1", "a2"} <= set(group.tensors):
        one, two = group.matrix("a1"), group.matrix("a2")
        today = today and one.shape[1] == two.shape[0] and one.shape[0] == two.shape[1]
        before = before and one.shape[0] == two.shape[1] and one.shape[1] == two.shape[0]
        # The rank is the smaller side of a square product.
        today = today and one.shape[1] <= one.shape[0]
        before = before and one.shape[0] <= one.shape[1]
    if today == before:
        raise group.bad("has GLoRA factors whose order their shapes do not tell")
    return today


def _pair(group: Group, part: str, later: bool) -> tuple[tuple[Tensor, Tensor], tuple[int, ...]]:
    """Left and right factor, and the kernel of the right one."""
    left, right = (f"{part}1", f"{part}2") if later else (f"{part}2", f"{part}1")
    kernel = tuple(size for size in group.tensors[right].shape[2:]) if part == "b" else ()
    return (group.matrix(left), group.matrix(right)), kernel
