"""OFT: blocks of the base weight's outputs (or inputs) are rotated.

Qiu et al., arXiv 2306.07280; BOFT: Liu et al., arXiv 2311.06243. A skew matrix Q gives the rotation
by Cayley's transform R = (I + Q)(I − Q)⁻¹.

* kohya's scripts and LyCORIS: ``oft_blocks`` (blocks, size, size) rotate outputs; a fourth axis in
  front is BOFT's butterfly stages; ``alpha`` limits ‖Q‖ to alpha × outputs; ``rescale`` multiplies
  each output.
* peft: ``oft_R.weight`` (blocks, size(size−1)/2) rotate inputs, by default with the first terms of
  the Neumann series instead of the exact inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from tadasu.auditing.adapter import Update, Weight, checked_weight
from tadasu.auditing.formats.group import ADAPTER, Group
from tadasu.errors import BadInput

TAILS = {
    r"\.oft_blocks": "oft_blocks",
    r"\.rescale": "rescale",
    rf"\.oft_R{ADAPTER}": "oft_R",
}
#: Largest rotated block.
LARGEST = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Rotated(Update):
    """A rotation of the base weight.

    Args:
        turn: base weight to turned weight.
        channels: how many outputs (axis 0) or flattened inputs (axis 1) it turns.
        axis: which side.
        shape: the base weight's shape where known, else with 0 for what the file leaves open.
        kind: the format's name.
    """

    turn: Callable[[Tensor], Tensor]
    channels: int
    axis: int
    shape: tuple[int, ...]
    kind: str = "oft"
    needs_weight: bool = True

    def delta(self, weight: Weight | None = None) -> Weight:
        """The turned weight less the base weight.

        Raises:
            BadInput: when the base weight is missing or has another number of channels.
        """
        shape = self.shape if 0 not in self.shape or weight is None else tuple(weight.shape)
        base = checked_weight(weight, shape, self.kind)
        self._fits(tuple(base.shape))
        matrix = base.reshape(base.shape[0], -1)
        return (self.turn(matrix) - matrix).reshape(base.shape)

    def fitted(self, shape: tuple[int, ...]) -> Update:
        """The base tells the shape that the file leaves open.

        Raises:
            BadInput: when the channels do not fit.
        """
        self._fits(shape)
        return replace(self, shape=shape)

    def _fits(self, shape: tuple[int, ...]) -> None:
        side = shape[0] if self.axis == 0 else math.prod(shape[1:])
        if len(shape) < 2 or side != self.channels:
            raise BadInput(f"A rotation of {self.channels} channels does not fit {shape}.")


def claims(roles: frozenset[str]) -> bool:
    """Rotations of either writer."""
    return "oft_blocks" in roles or "oft_R" in roles


def build(group: Group) -> dict[str, Update]:
    """One rotation.

    Raises:
        BadFile: when the blocks are not square or too large.
    """
    return {"": _peft(group) if "oft_R" in group.tensors else _outputs(group)}


def _outputs(group: Group) -> Rotated:
    blocks = group.tensors["oft_blocks"].float()
    square = blocks.ndim in (3, 4) and blocks.shape[-1] == blocks.shape[-2]
    if not square or not 0 < blocks.shape[-1] <= LARGEST or not blocks.numel():
        raise group.bad(f"has rotations of shape {tuple(blocks.shape)}")
    channels = int(blocks.shape[-3] * blocks.shape[-1])
    group.sized((channels, int(blocks.shape[-1])))
    group.bounded(1.0, blocks)
    scale = group.tensors.get("rescale")
    if scale is not None and scale.numel() != channels:
        raise group.bad(f"has {scale.numel()} scales for {channels} outputs")
    skew = blocks - blocks.mT
    limit = (group.number("alpha") or 0.0) * channels
    size = float(skew.norm()) + 1e-8
    if 0 < limit < size:
        skew = skew * (limit / size)
    turn = partial(_turn_outputs, skew, None if scale is None else scale.float().reshape(-1, 1))
    return Rotated(turn=turn, channels=channels, axis=0, shape=(channels, 0))


def _turn_outputs(skew: Tensor, scale: Tensor | None, matrix: Tensor) -> Tensor:
    rotation = cayley(skew)
    if rotation.ndim == 3:
        count, size, _ = rotation.shape
        blocks = matrix.reshape(count, size, -1)
        turned = torch.einsum("knm,kni->kmi", rotation, blocks).reshape(matrix.shape)
    else:
        turned = _butterfly(rotation, matrix)
    return turned if scale is None else turned * scale


def _butterfly(rotation: Tensor, matrix: Tensor) -> Tensor:
    """Stage by stage, pairs of rows that lie 2^stage · size/2 apart are turned together."""
    size = rotation.shape[-1]
    turned = matrix
    for stage, blocks in enumerate(rotation):
        step = 2**stage * (size // 2)
        if step == 0 or matrix.shape[0] % (2 * step):
            raise BadInput("Butterfly stages do not fit the base weight.")
        columns = matrix.shape[1]
        mixed = turned.reshape(-1, 2, step, columns).transpose(1, 2).reshape(-1, size, columns)
        mixed = torch.einsum("bij,bjc->bic", blocks, mixed)
        turned = mixed.reshape(-1, step, 2, columns).transpose(1, 2).reshape(matrix.shape)
    return turned


def cayley(skew: Tensor) -> Tensor:
    """The rotation (I + Q)(I − Q)⁻¹ of a skew matrix, block by block.

    >>> import torch
    >>> quarter = cayley(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    >>> quarter.round(decimals=6).abs().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    unit = torch.eye(skew.shape[-1])
    rotation: Tensor = torch.linalg.solve(unit - skew, unit + skew, left=False)
    return rotation


def _peft(group: Group) -> Rotated:
    values = group.matrix("oft_R").float()
    size = (1 + math.isqrt(1 + 8 * int(values.shape[1]))) // 2
    if size * (size - 1) // 2 != values.shape[1] or size > LARGEST:
        raise group.bad(f"has rotations of shape {tuple(values.shape)}")
    options = group.settings.options
    if options.get("coft") or options.get("block_share"):
        raise group.bad("is a constrained or shared OFT of peft, which is not read")
    terms = options.get("num_cayley_neumann_terms", 5)
    neumann = options.get("use_cayley_neumann", True)
    if type(terms) is not int or not 1 <= terms <= 64:
        raise group.bad("has a number of series terms that cannot be")
    group.bounded(1.0, values)
    rows, columns = torch.triu_indices(size, size, 1)
    skew = torch.zeros(values.shape[0], size, size)
    skew[:, rows, columns] = values
    skew = skew - skew.mT
    rotation = neumann_series(skew, terms) if neumann else cayley(-skew)
    channels = int(values.shape[0]) * size
    turn = partial(_turn_inputs, rotation)
    return Rotated(turn=turn, channels=channels, axis=1, shape=(0, channels))


def _turn_inputs(rotation: Tensor, matrix: Tensor) -> Tensor:
    """``W Rᵀ``: the layer sees its inputs turned by R."""
    count, size, _ = rotation.shape
    blocks = matrix.reshape(-1, count, size)
    return torch.einsum("okc,krc->okr", blocks, rotation).reshape(matrix.shape)


def neumann_series(skew: Tensor, terms: int) -> Tensor:
    """The shortened series of Cayley's transform that peft uses: I + 2Q + 2Q² + … + Qᵗ.

    From three terms on the last power counts once and is at least the third, as in peft's code.
    """
    rotation = torch.eye(skew.shape[-1]).expand_as(skew).clone()
    power = torch.eye(skew.shape[-1])
    last = terms - 1 if terms < 3 else max(terms - 1, 3)
    for exponent in range(1, last + 1):
        power = power @ skew
        rotation = rotation + power * (1.0 if exponent == last and exponent > 2 else 2.0)
    return rotation
