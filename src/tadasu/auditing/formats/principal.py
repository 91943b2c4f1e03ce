"""PiSSA and OLoRA: factors that start from a part of the base, which loading takes out of it.

A way of reading LoRA, no format of its own. Meng et al. (PiSSA), arXiv 2404.02948: ``B₀ A₀`` are
the largest singular values of ``W``; Büyükakyüz (OLoRA), arXiv 2406.01775: its first QR columns.
peft repeats that start when it loads the file, so what the file changes is ``s (B A − B₀ A₀)`` with
``s = alpha / rank``, which is told here from the base. PiSSA with a randomised start
(``pissa_niter_…``) cannot be repeated and is refused, as are the starts that depend on data
(CorDA, LoRA-GA, LoftQ).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tadasu.auditing.adapter import Factored, Update, Weight, checked_weight
from tadasu.auditing.formats.group import Group

#: Values of peft's ``init_lora_weights`` that leave the base as it is.
PLAIN = ("", "true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
STARTS = ("pissa", "olora")


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved(Update):
    """Trained factors less the part of the base that they started from.

    Args:
        inner: the trained factors, scaled.
        start: ``pissa`` or ``olora``.
        scale: alpha / rank.
        shape: the base weight's shape.
        kind: the start's name.
    """

    inner: Factored
    start: str
    scale: float
    shape: tuple[int, ...]
    needs_weight: bool = True

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The start's name."""
        return self.start

    def delta(self, weight: Weight | None = None) -> Weight:
        """The product less the base's own part."""
        base = checked_weight(weight, self.shape, self.kind)
        matrix, rank = base.reshape(self.shape[0], -1), self.inner.rank
        if self.start == "pissa":  # the scale is divided out of the singular values
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            taken = (left[:, :rank] * values[:rank]) @ right[:rank]
        else:
            q, r = torch.linalg.qr(matrix)
            taken = self.scale * (q[:, :rank] @ r[:rank])
        changed: Tensor = self.inner.delta() - taken.reshape(self.shape)
        return changed

    def fitted(self, shape: tuple[int, ...]) -> Update:
        """The inner update is fitted too."""
        inner = replace(self.inner, shape=self.inner.fitted(shape).shape)
        return replace(self, inner=inner, shape=inner.shape)


def start_of(group: Group) -> str:
    """What peft's ``init_lora_weights`` says, in lower case."""
    return str(group.settings.options.get("init_lora_weights", "")).lower()


def moved(group: Group, plain: Factored) -> Update:
    """The factors as peft applies them after its start.

    Raises:
        BadFile: for a start that changes the base in a way that cannot be repeated.
    """
    start = start_of(group)
    if start in PLAIN:
        return plain
    if start not in STARTS or len(plain.shape) != 2:
        raise group.bad(
            f"starts from a part of the base by {start!r}, which cannot be repeated here; "
            "ask for the file converted to a plain LoRA"
        )
    return Moved(inner=plain, start=start, scale=plain.scale, shape=plain.shape)
