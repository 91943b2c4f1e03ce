"""Textual inversion: a few vectors that stand for a word (Gal et al., arXiv 2208.01618).

A1111 writes ``string_to_param.*`` (or ``emb_params`` in safetensors); diffusers writes one tensor
under the word itself; for SDXL ``clip_l`` and ``clip_g`` carry one each per text encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tadasu.auditing.containers import TensorFile
from tadasu.errors import BadFile, shown

_PARTS = {
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    "t5xxl": "text_encoder_3",
    "emb_params": "text_encoder",
    "string_to_param.*": "text_encoder",
}
#: Most vectors of one embedding, and the widths a text encoder may have.
MOST_VECTORS, WIDTHS = 4096, range(16, 16_385)


#: How OneTrainer packs an embedding into a LoRA: ``bundle_emb.<word>.<one of _PARTS>``.
BUNDLE = "bundle_emb."


def bundled(file: TensorFile) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Vectors per text encoder of all embeddings packed beside factors, and their names.

    Raises:
        BadFile: for one with too many vectors.
    """
    names = frozenset(name for name in file.stored if name.startswith(BUNDLE))
    found: dict[str, list[Tensor]] = {}
    for name in sorted(names):
        word = name.removeprefix(BUNDLE)
        part = next((part for key, part in _PARTS.items() if word.endswith(f".{key}")), "")
        again = word.endswith("string_to_param.*")  # the same vectors once more, for A1111
        if part and not (again and part in found):
            found.setdefault(part, []).extend(_vectors(file, name))
    return {part: torch.cat(all_of) for part, all_of in found.items() if all_of}, names


def _vectors(file: TensorFile, key: str) -> list[Tensor]:
    """One tensor as rows of vectors; none where it cannot be any."""
    shape = file.stored[key].shape
    if len(shape) not in (1, 2) or shape[-1] not in WIDTHS:
        return []
    if len(shape) == 2 and not 0 < shape[0] <= MOST_VECTORS:
        raise BadFile(f"Embedding {shown(key)} has {shape[0]:,} vectors.")
    tensor = file.get(key)
    return [tensor.float().reshape(-1, shape[-1])] if tensor.is_floating_point() else []


def embeddings(file: TensorFile) -> dict[str, Tensor]:
    """Vectors per text encoder; empty when the file is no embedding.

    Raises:
        BadFile: when it is one, but with too many vectors.
    """
    known = {part: key for key, part in _PARTS.items() if key in file.stored}
    if not known and len(file.stored) == 1:
        key = next(iter(file.stored))
        if "." not in key or key.startswith("string_to_param."):
            known = {"text_encoder": key}
    found: dict[str, Tensor] = {}
    for part, key in known.items():
        vectors = _vectors(file, key)
        if vectors:
            found[part] = vectors[0]
    return found
