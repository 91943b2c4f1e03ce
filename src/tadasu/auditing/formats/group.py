"""The tensors of one module, with what a format needs to read them safely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from tadasu.auditing.containers import Limits
from tadasu.errors import BadFile, shown

#: What peft may put behind a tensor's name: the adapter's own name, then ``weight``.
ADAPTER = r"(?:\.default(?:_\d+)?|\.[\w-]+(?=\.weight))?(?:\.weight)?"
#: Largest product of the factors' norms; honest files stay below a million.
LARGEST = 1e15


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a file says about its factors outside of them (peft's configuration).

    Attributes:
        alpha: scale's numerator where the module carries none; None: no scale.
        rank: peft's ``r``, for formats whose factors do not tell it.
        rank_stabilised: divide by √rank instead of rank.
        options: everything else, as written.
    """

    alpha: float | None = None
    rank: int | None = None
    rank_stabilised: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """One module of a file.

    Attributes:
        module: its name in the file.
        tensors: by role.
        settings: see there.
        limits: what is too much.
        biased: whether the base's layer is known to have a bias.
    """

    module: str
    tensors: Mapping[str, Tensor]
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    biased: bool = False

    def without(self, role: str) -> Group:
        """The same module without one role, for formats that wrap another."""
        kept = {name: tensor for name, tensor in self.tensors.items() if name != role}
        return replace(self, tensors=kept)

    def only(self, roles: frozenset[str]) -> Group:
        """The same module with some of its roles, for formats that share it."""
        kept = {name: tensor for name, tensor in self.tensors.items() if name in roles}
        return replace(self, tensors=kept)

    def matrix(self, role: str) -> Tensor:
        """A tensor as (first axis, everything else).

        Raises:
            BadFile: when it is missing or has fewer than two axes, or an empty one.
        """
        tensor = self.tensors.get(role)
        if tensor is None:
            raise self.bad(f"lacks its part {role!r}")
        if tensor.ndim < 2 or 0 in tensor.shape or not tensor.is_floating_point():
            raise self.bad(f"has a part {role!r} of shape {tuple(tensor.shape)}")
        return tensor.reshape(tensor.shape[0], -1)

    def number(self, role: str) -> float | None:
        """A tensor of one value; None when there is none.

        Raises:
            BadFile: when it holds more than one value, or one that is not finite.
        """
        tensor = self.tensors.get(role)
        if tensor is None:
            return None
        if tensor.numel() != 1 or not math.isfinite(value := float(tensor)):
            raise self.bad(f"has a part {role!r} that is not one number")
        return value

    def scale(self, rank: int) -> float:
        """Alpha / rank: the module's own alpha, else the file's, else no scale.

        An alpha of 0 counts as none, as in kohya's scripts. Loaders that multiply by 0 show
        nothing of such a file; here it is examined at full strength.

        Raises:
            BadFile: when the rank is too high.
        """
        if rank > self.limits.rank:
            raise self.bad(f"has rank {rank:,}; at most {self.limits.rank:,} is read")
        alpha = self.number("alpha") or self.settings.alpha
        if not alpha:
            return 1.0
        return alpha / (math.sqrt(rank) if self.settings.rank_stabilised else rank)

    def sized(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The weight's shape, when so many values may be.

        Raises:
            BadFile: when the dense weight would be too large.
        """
        if math.prod(shape) > self.limits.values:
            raise self.bad(
                f"is for a weight of {math.prod(shape):,} values; "
                f"at most {self.limits.values:,} are read"
            )
        return shape

    def bounded(self, scale: float, *factors: Tensor) -> None:
        """Refuse factors whose product could not be a change of any weight.

        Raises:
            BadFile: when the product of their norms is beyond ``LARGEST``.
        """
        size = abs(scale) * math.prod(float(factor.float().norm()) for factor in factors)
        if not size <= LARGEST:
            raise self.bad("is too large to be a change of any weight")

    def bad(self, what: str) -> BadFile:
        """The error for this module."""
        return BadFile(f"Module {shown(self.module, 120)} {what}.")
