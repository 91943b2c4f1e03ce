"""Weights in eight bits with a scale beside them: ``X.scale_weight`` (or ``weight_scale``).

ComfyUI and others store ``X.weight`` as float8 or int8 and the number that it must be multiplied
with, one for all or one per row. ``scale_input`` and the marker ``scaled_fp8`` change no weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from tadasu.auditing.containers.file import PlainFile, Stored, TensorFile, finite
from tadasu.errors import BadFile, shown

_SCALES = (".scale_weight", ".weight_scale")
_IGNORED = (".scale_input", ".input_scale")
_MARKERS = frozenset({"scaled_fp8"})


@dataclass(frozen=True, kw_only=True)
class ScaledFile(TensorFile):
    """A file whose eight-bit weights come out multiplied.

    Attributes:
        inner: the file as it is stored.
        scales: the scale's name by the weight's.
    """

    inner: TensorFile
    scales: Mapping[str, str]
    plain: PlainFile
    stored: Mapping[str, Stored]
    container: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Tensor:
        """One tensor, multiplied where a scale belongs to it.

        Raises:
            BadFile: for a scale that does not fit.
        """
        value = self.inner.get(name)
        if name not in self.scales:
            return value
        scale = self.inner.get(self.scales[name]).float()
        if scale.numel() not in (1, value.shape[0] if value.ndim else 1):
            raise BadFile(f"The scale of {shown(name)} fits neither the tensor nor its rows.")
        view = [-1] + [1] * (value.ndim - 1) if scale.numel() > 1 else []
        return finite(value.float() * scale.reshape(view), name)


def unscaled(file: TensorFile) -> TensorFile:
    """The file with scales applied; the file itself where it has none.

    Raises:
        BadFile: a scale beside a weight that is not of eight bits, or beside none.
    """
    scales: dict[str, str] = {}
    hidden = {name for name in file.stored if name in _MARKERS or name.endswith(_IGNORED)}
    for name in file.stored:
        tail = next((tail for tail in _SCALES if name.endswith(tail)), "")
        if not tail:
            continue
        weight = f"{name.removesuffix(tail)}.weight"
        if weight not in file.stored or file.stored[weight].dtype.itemsize != 1:
            raise BadFile(f"The scale {shown(name)} belongs to no weight of eight bits.")
        if weight in scales:
            raise BadFile(f"Tensor {shown(weight)} has two scales.")
        scales[weight] = name
    if not scales:
        return file
    hidden |= set(scales.values())
    kept = {name: place for name, place in file.stored.items() if name not in hidden}
    return ScaledFile(
        inner=file,
        scales=scales,
        plain=file.plain,
        stored=kept,
        container=file.container,
        metadata=file.metadata,
    )
