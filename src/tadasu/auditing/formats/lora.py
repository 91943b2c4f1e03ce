"""LoRA and LoCon: ``ΔW = (alpha / rank) · up · down``, for convolutions with an optional core.

Hu et al., arXiv 2106.09685; Yeh et al. (LyCORIS), arXiv 2309.14859. Written by kohya's scripts,
diffusers (several generations of names), peft, ComfyUI and OneTrainer. ``lora_mid`` is a Tucker
core (rank, rank, height, width) between two 1 × 1 factors; it joins ``down``: the rank stays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tadasu.auditing.adapter import Factored, Update
from tadasu.auditing.formats.group import Group

_ADAPTER = r"(?:\.default(?:_\d+)?)?(?:\.weight)?"
TAILS = {
    rf"\.lora_down{_ADAPTER}|\.lora_A{_ADAPTER}": "down",
    rf"\.lora_up{_ADAPTER}|\.lora_B{_ADAPTER}": "up",
    r"\.lora(?:_linear_layer)?\.down\.weight|(?<=_lora)\.down\.weight": "down",
    r"\.lora(?:_linear_layer)?\.up\.weight|(?<=_lora)\.up\.weight": "up",
    r"(?<=_lora[12])\.down\.weight": "down",  # XLabs
    r"(?<=_lora[12])\.up\.weight": "up",
    r"\.lora_mid\.weight": "mid",
    rf"\.lora_embedding_A{_ADAPTER}": "embedding_down",
    rf"\.lora_embedding_B{_ADAPTER}": "embedding_up",
    r"\.alpha": "alpha",
}


def claims(roles: frozenset[str]) -> bool:
    """Two factors make it a LoRA."""
    return {"down", "up"} <= roles or {"embedding_down", "embedding_up"} <= roles


def build(group: Group) -> dict[str, Update]:
    """One factored update.

    Raises:
        BadFile: when the factors do not fit.
    """
    if "embedding_down" in group.tensors:  # peft: a table's rows are the columns of the product
        up, down = group.matrix("embedding_down").T, group.matrix("embedding_up").T
        kernel: tuple[int, ...] = ()
    else:
        up, down = group.matrix("up"), group.matrix("down")
        kernel = tuple(group.tensors["down"].shape[2:])
    if "mid" in group.tensors:
        down, kernel = _with_core(group, down), tuple(group.tensors["mid"].shape[2:])
    rank = int(down.shape[0])
    scale = group.scale(rank)
    if up.shape[1] != rank:
        raise group.bad(f"has factors of {up.shape[1]} and {rank} ranks")
    group.bounded(scale, up, down)
    inputs = int(down.shape[1]) // max(1, torch.Size(kernel).numel())
    shape = group.sized((int(up.shape[0]), inputs, *kernel))
    return {"": Factored(up=up, down=down, scale=scale, shape=shape)}


def _with_core(group: Group, down: Tensor) -> Tensor:
    """The core contracted with ``down``: (rank, inputs × height × width)."""
    core = group.tensors["mid"]
    if core.ndim < 3 or core.shape[1] != down.shape[0] or 0 in core.shape:
        raise group.bad(f"has a core of shape {tuple(core.shape)}, which does not fit")
    group.sized((int(core.shape[0]), int(down.shape[1]), *core.shape[2:]))
    joined = torch.einsum("pq...,qi->pi...", core.float(), down.float())
    return joined.reshape(core.shape[0], -1)
