"""Lineage: whether a file is a known one, saved again, rescaled, re-ranked, cast or merged.

Platforms recognise a banned file by the hash of its bytes, which any re-save changes. Here a file
is known by a sketch of the change it makes: for each weight the numbers ``lᵢᵀ ΔW rᵢ`` with fixed
vectors of ±1, summed over the weights of a group with fixed signs (Alon, Matias, Szegedy 1996; the
rank-one form of Johnson–Lindenstrauss). Its inner products estimate those of the changes
themselves, so the sketch does not depend on how a change is factored, follows its scale, and the
sketch of a merge is the sum of the sketches.

The ±1 come from SHAKE-128 of the vector's length, never from a random generator of a library, so
that an index stays valid for good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.auditing.adapter import Adapter, Update
from tadasu.auditing.base import Base
from tadasu.auditing.formats.dora import Decomposed
from tadasu.auditing.formats.ia3 import Channels
from tadasu.errors import BadInput

#: Part of every index; another version's sketches cannot be compared.
VERSION = 1
#: Numbers per group. The cosine of two unrelated changes is estimated as 0 ± 1/√(SIZE).
SIZE = 512
#: Kinds of weights that are sketched apart, so that a copy of some of them is still seen.
GROUPS = ("text", "cross", "self", "feed", "other")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketch:
    """What a file's change looks like from a fixed set of directions.

    Attributes:
        values: one row per group of ``GROUPS``.
        digest: SHA-256 of the file it was made from.
        skipped: weights that could not be sketched without the base.
    """

    values: Float[Tensor, "groups size"]
    digest: str
    skipped: tuple[str, ...] = ()

    @property
    def norm(self) -> float:
        """Estimate of the whole change's Frobenius norm, times √SIZE."""
        return float(self.values.norm())

    def unit(self) -> Float[Tensor, " sketch"]:
        """The sketch as one vector of length 1; zeros for a file that changes nothing."""
        flat = self.values.flatten()
        length = flat.norm()
        return flat / length if float(length) > 0 else flat


def sketch(adapter: Adapter, base: Base | None = None) -> Sketch:
    """The sketch of one file.

    Args:
        adapter: the file.
        base: its base. Only kinds that need the base weight gain by it: without it DoRA counts as
            the LoRA inside, (IA)³ as its numbers, and rotations and whole checkpoints not at all.

    Raises:
        BadInput: when nothing in the file can be sketched.
    """
    values = torch.zeros(len(GROUPS), SIZE)
    skipped: list[str] = []
    for name, update in adapter.updates.items():
        row = GROUPS.index(group_of(name))
        part = _part(name, update, base)
        if part is None:
            skipped.append(name)
        else:
            values[row] += part
    for part_name, vectors in adapter.embeddings.items():
        values[0] += _project(f"{part_name}.embedding", vectors.float(), None)
    if adapter.updates and len(skipped) == len(adapter.updates):
        raise BadInput(f"A {adapter.format} file can only be sketched beside its base.")
    return Sketch(values=values, digest=adapter.digest, skipped=tuple(skipped))


def group_of(name: str) -> str:
    """Which kind of weight a canonical name is.

    >>> group_of("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    'cross'
    """
    if name.startswith("text_encoder"):
        return "text"
    if ".attn2." in name or ".add_" in name:
        return "cross"
    if ".attn1." in name or ".attn." in name:
        return "self"
    return "feed" if ".ff" in name or ".proj_mlp" in name else "other"


def _part(name: str, update: Update, base: Base | None) -> Tensor | None:
    """One weight's numbers; None when they cannot be told."""
    if update.needs_weight and base is not None and name in base.shapes:
        return _project(name, update.delta(base.weight(name)), None)
    if isinstance(update, Decomposed):
        update = update.inner
    elif isinstance(update, Channels):
        return _project(name, update.change.float(), None)
    if update.needs_weight:
        return None
    found = update.factors()
    return _project(name, *found) if found else _project(name, update.delta(), None)


def _project(name: str, first: Tensor, down: Tensor | None) -> Float[Tensor, " size"]:
    """``sᵢ lᵢᵀ ΔW rᵢ`` of a dense change, or of ``first @ down``."""
    matrix = first.reshape(first.shape[0], -1)
    left = signs("left", int(matrix.shape[0])) @ matrix
    if down is None:
        products = left * signs("right", int(matrix.shape[1]))
    else:
        products = left * (signs("right", int(down.shape[1])) @ down.T)
    return products.sum(dim=1) * signs(f"weight {name}", 1)[:, 0]


@lru_cache(maxsize=48)
def signs(purpose: str, length: int) -> Float[Tensor, "size length"]:
    """``SIZE`` fixed vectors of ±1 for one purpose and length.

    >>> signs("left", 8).shape, signs("left", 8).abs().min().item()
    (torch.Size([512, 8]), 1.0)
    """
    seed = f"tadasu lineage {VERSION} {purpose} {length}".encode()
    data = hashlib.shake_128(seed).digest((SIZE * length + 7) // 8)
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=SIZE * length)
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1).reshape(SIZE, length)


def cosine(first: Sketch, second: Sketch) -> float:
    """Estimated cosine of two files' changes: 1 for copies, near 0 for strangers."""
    return float(first.unit() @ second.unit())


def by_group(first: Sketch, second: Sketch) -> Mapping[str, float]:
    """The cosine of each group that both files change."""
    found: dict[str, float] = {}
    for name, left, right in zip(GROUPS, first.values, second.values, strict=True):
        length = float(left.norm() * right.norm())
        if length > 0:
            found[name] = float(left @ right) / length
    return found
