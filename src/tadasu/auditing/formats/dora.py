"""DoRA: ``W' = m · (W + ΔW) / ‖W + ΔW‖``, channel by channel, around any additive format.

Liu et al., arXiv 2402.09353, eq. 5. peft, ai-toolkit and LyCORIS take the norm over each output's
weights by default; LyCORIS can take it over each input's, which the magnitude's shape shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tadasu.auditing import formats
from tadasu.auditing.adapter import Update, Weight, checked_weight, stacked
from tadasu.auditing.formats.group import ADAPTER, Group
from tadasu.errors import BadInput

WRAPS = True
TAILS = {
    r"\.dora_scale": "magnitude",
    rf"\.lora_magnitude_vector{ADAPTER}": "magnitude_out",
    r"\.magnitude": "magnitude_out",  # ai-toolkit
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposed(Update):
    """A direction and a length per channel.

    Args:
        inner: the additive update of the direction.
        magnitude: one length per channel.
        axis: 0 for outputs, 1 for inputs.
        shape: the base weight's shape.
        kind: the format's name.
    """

    inner: Update
    magnitude: Tensor
    axis: int
    shape: tuple[int, ...]
    kind: str = "dora"
    needs_weight: bool = True

    def delta(self, weight: Weight | None = None) -> Weight:
        """The rescaled weight less the base weight."""
        base = checked_weight(weight, self.shape, self.kind)
        moved = base + self.inner.delta().reshape(self.shape)
        others = [axis for axis in range(moved.ndim) if axis != self.axis]
        length = torch.linalg.vector_norm(moved, dim=others, keepdim=True)
        length = length.clamp_min(torch.finfo(torch.float32).tiny)
        changed: Tensor = moved * (self.magnitude.float().reshape(length.shape) / length) - base
        return changed

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Update:
        """Outputs can be cut; inputs cannot, because their norm runs over all rows.

        Raises:
            BadInput: for magnitudes per input.
        """
        if self.axis != 0:
            raise BadInput("A DoRA of a fused weight with lengths per input cannot be cut.")
        inner, lengths = self.inner.rows(pieces), stacked(self.magnitude.reshape(-1), pieces)
        return replace(self, inner=inner, magnitude=lengths, shape=inner.shape)

    def fitted(self, shape: tuple[int, ...]) -> Update:
        """The inner update is fitted too."""
        inner = self.inner.fitted(shape)
        return replace(self, inner=inner, shape=inner.shape)


def claims(roles: frozenset[str]) -> bool:
    """A magnitude makes it a DoRA."""
    return bool({"magnitude", "magnitude_out"} & roles)


def build(group: Group) -> dict[str, Update]:
    """The inner format's update, rescaled.

    Raises:
        BadFile: when there is no inner update or the magnitude fits neither axis.
    """
    role = "magnitude" if "magnitude" in group.tensors else "magnitude_out"
    magnitude = group.tensors[role]
    built = formats.build(group.without(role))
    inner = built.get("")
    if inner is None or inner.needs_weight or not magnitude.is_floating_point():
        raise group.bad("has a magnitude without an update that it could rescale")
    count, shape = magnitude.numel(), inner.shape
    by_input = role == "magnitude" and magnitude.ndim > 1 and magnitude.shape[0] == 1 and count > 1
    axis = 1 if by_input else 0
    if axis and len(shape) == 2 and magnitude.ndim > 2 and count and shape[1] % count == 0:
        # A convolution whose factors do not show its kernel: the magnitudes tell the inputs.
        inner = inner.fitted((shape[0], count, shape[1] // count))
        shape = inner.shape
    if count != shape[axis]:
        raise group.bad(f"has {count} magnitudes for a weight of shape {shape}")
    group.bounded(1.0, magnitude)
    wrapped = Decomposed(inner=inner, magnitude=magnitude, axis=axis, shape=shape)
    return {**built, "": wrapped}
