"""(IA)³: each output (or input) channel of the base weight is multiplied by a learned number.

Liu et al., arXiv 2205.05638. LyCORIS stores the number less 1 with a flag ``on_input``; peft stores
the number itself (``ia3_l``), (outputs, 1) or (1, inputs) for linear layers, and multiplies the
outputs' bias as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tadasu.auditing.adapter import Update, Weight, checked_weight, stacked
from tadasu.auditing.formats.group import ADAPTER, Group
from tadasu.errors import BadInput

TAILS = {
    r"\.on_input": "on_input",
    rf"\.ia3_l{ADAPTER}": "ia3_l",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Channels(Update):
    """``ΔW = W · change`` along one axis.

    Args:
        change: the multiplier less 1, one per channel.
        axis: 0 for outputs, 1 for inputs.
        shape: the base weight's shape where it is known; else only the channels' own axis is
            set, and the other is 0.
        kind: the format's name.
    """

    change: Tensor
    axis: int
    shape: tuple[int, ...]
    kind: str = "ia3"
    needs_weight: bool = True

    def delta(self, weight: Weight | None = None) -> Weight:
        """The base weight's channels, multiplied.

        Raises:
            BadInput: when the base weight is missing or has another number of channels.
        """
        shape = self.shape if 0 not in self.shape or weight is None else tuple(weight.shape)
        base = checked_weight(weight, shape, self.kind)
        if base.ndim <= self.axis or base.shape[self.axis] != self.change.numel():
            raise BadInput(
                f"{self.change.numel()} channels do not fit a weight of {tuple(base.shape)}."
            )
        view = [1] * base.ndim
        view[self.axis] = -1
        return base * self.change.float().reshape(view)

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Update:
        """Outputs are cut; inputs are the same for every part."""
        count = sum(end - start for start, end in pieces)
        change = stacked(self.change, pieces) if self.axis == 0 else self.change
        return replace(self, change=change, shape=(count, *self.shape[1:]))

    def fitted(self, shape: tuple[int, ...]) -> Update:
        """The base tells the shape that the file leaves open.

        Raises:
            BadInput: when the channels do not fit.
        """
        if len(shape) <= self.axis or shape[self.axis] != self.change.numel():
            raise BadInput(f"{self.change.numel()} channels do not fit a weight of {shape}.")
        return replace(self, shape=shape)


def claims(roles: frozenset[str]) -> bool:
    """Channels of either writer."""
    return "ia3_l" in roles or {"channels", "on_input"} <= roles


def build(group: Group) -> dict[str, Update]:
    """One multiplication.

    Raises:
        BadFile: when the channels are no vector.
    """
    if "ia3_l" in group.tensors:
        number = group.tensors["ia3_l"]
        feeds = group.settings.options.get("feedforward_modules") or ()
        by_input = number.ndim > 1 and number.shape[0] == 1
        if by_input and number.ndim > 2:  # convolutions are (1, channels, 1, 1) on either axis
            names = (str(feeds),) if isinstance(feeds, str) else tuple(feeds)  # type: ignore[arg-type]
            by_input = any(group.module.endswith(str(name)) for name in names)
        change = number.float().reshape(-1) - 1
    else:
        by_input = bool(group.number("on_input"))
        change = group.tensors["channels"].float().reshape(-1)
    if not change.numel():
        raise group.bad("has no channels")
    group.bounded(1.0, change)
    axis = int(by_input)
    shape = (0, change.numel()) if axis else (change.numel(), 0)
    built: dict[str, Update] = {"": Channels(change=change, axis=axis, shape=group.sized(shape))}
    if axis == 0 and group.biased and "ia3_l" in group.tensors:
        built[".bias"] = Channels(change=change, axis=0, shape=(change.numel(),))
    return built
