"""Whole models as updates: the change of every weight against the base that is handed in.

Weights stay in the file until a change is asked for, so that a model of any size is examined in the
memory of its largest weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tadasu.auditing.adapter import Update, Weight, checked_weight
from tadasu.auditing.base import Base, canonical
from tadasu.auditing.containers import TensorFile
from tadasu.auditing.containers.file import Stored
from tadasu.auditing.names import Target, resolve

#: Parts of whole models that adapters never change and no audit reads.
_IGNORED = ("first_stage_model.", "model_ema.", "vae.", "cond_stage_model.model.logit_scale")


@dataclass(frozen=True, kw_only=True, eq=False)
class Replaced(Update):
    """``ΔW = W' − W`` for a weight that the file carries whole.

    Args:
        file: the file.
        key: the weight's name in it.
        target: which rows of it are meant.
        shape: the base weight's shape.
        kind: ``checkpoint``.
    """

    file: TensorFile
    key: str
    target: Target
    shape: tuple[int, ...]
    kind: str = "checkpoint"
    needs_weight: bool = True

    def delta(self, weight: Weight | None = None) -> Weight:
        """The file's weight less the base's.

        Raises:
            BadInput: when the base weight is missing or does not fit.
            BadFile: when the file's weight holds values that are not finite.
        """
        base = checked_weight(weight, self.shape, self.kind)
        return cut(self.file.get(self.key).float(), self.target).reshape(self.shape) - base

    def fitted(self, shape: tuple[int, ...]) -> Update:
        """A linear layer for a 1 × 1 convolution, or the other way round."""
        super().fitted(shape)
        return replace(self, shape=shape)


def cut(tensor: Weight, target: Target) -> Weight:
    """The target's rows of a fused tensor."""
    if not target.rows:
        return tensor
    step = tensor.shape[0] // target.whole
    (start, end), *_ = target.rows
    return tensor[start * step : end * step]


def updates(file: TensorFile, base: Base | None) -> dict[str, Update]:
    """Every weight of a whole model that is known by name, still unread."""
    found: dict[str, Update] = {}
    for key, place in file.stored.items():
        if key.startswith(_IGNORED) or not place.shape or not place.dtype.is_floating_point:
            continue
        for target, name in _targets(key, place, base):
            rows = place.shape[0]
            if target.rows:
                (start, end), *_ = target.rows
                rows = rows // target.whole * (end - start)
            shape = (rows, *place.shape[1:])
            found[name] = Replaced(file=file, key=key, target=target, shape=shape)
    return found


def _targets(key: str, place: Stored, base: Base | None) -> Iterator[tuple[Target, str]]:
    resolved = resolve(key.removesuffix(".weight"), base)
    for target in resolved.targets if resolved else ():
        if len(target.rows) < 2:  # weights that are stored in another order are left out
            yield target, canonical(target.name)
