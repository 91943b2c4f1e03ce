"""Whole models as updates: the change of every weight against the base that is handed in.

Weights stay in the file until a change is asked for, so that a model of any size is examined in the
memory of its largest weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tadasu.auditing.adapter import Update, Weight, checked_weight, stacked
from tadasu.auditing.base import Base, canonical
from tadasu.auditing.containers import TensorFile
from tadasu.auditing.containers.file import Stored
from tadasu.auditing.names import Target, resolve
from tadasu.auditing.names_transformers import Style

_PLAIN = Style()

#: Parts of whole models that adapters never change and no audit reads.
_IGNORED = ("first_stage_model.", "model_ema.", "vae.", "cond_stage_model.model.logit_scale")
_BUFFERS = (".position_ids", ".logit_scale", ".attn_mask")


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


def pieces(target: Target, shape: tuple[int, ...]) -> tuple[tuple[tuple[int, int], ...], int]:
    """Which rows of a fused weight are the target's, in parts, and in how many parts it is cut."""
    if target.halves and len(shape) == 2 and shape[0] == 2 * shape[1]:
        return ((1, 2), (0, 1)), 2
    return target.rows, target.whole


def cut(tensor: Weight, target: Target) -> Weight:
    """The target's rows of a fused tensor."""
    rows, whole = pieces(target, tuple(tensor.shape))
    if not rows:
        return tensor
    step = tensor.shape[0] // whole
    return stacked(tensor, [(start * step, end * step) for start, end in rows])


def updates(
    file: TensorFile, base: Base | None, style: Style = _PLAIN
) -> tuple[dict[str, Replaced], list[str]]:
    """Every weight of a whole model that is known by name, still unread; and the other names."""
    found: dict[str, Replaced] = {}
    strangers: list[str] = []
    for key, place in file.stored.items():
        if _of_no_concern(key, place):
            continue
        resolved = resolve(key.removesuffix(".weight"), base, style)
        if resolved is None:
            strangers.append(key)
            continue
        for target in resolved.targets:
            rows, whole = pieces(target, place.shape)
            count = place.shape[0] // whole * sum(end - start for start, end in rows)
            shape = (count if rows else place.shape[0], *place.shape[1:])
            name = canonical(target.name)
            found[name] = Replaced(file=file, key=key, target=target, shape=shape)
    return found, strangers


def _of_no_concern(key: str, place: Stored) -> bool:
    """Buffers, and parts that no audit reads: the VAE, and averages that no loader uses."""
    buffer = "." not in key and len(place.shape) < 2
    return (
        buffer
        or key.startswith(_IGNORED)
        or not place.shape
        or not place.dtype.is_floating_point
        or key.endswith(_BUFFERS)
    )
