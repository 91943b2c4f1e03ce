"""LoRA and LoCon: ``ΔW = (alpha / rank) · up · down``, for convolutions with an optional core.

Hu et al., arXiv 2106.09685; Yeh et al. (LyCORIS), arXiv 2309.14859. Written by kohya's scripts,
diffusers (several generations of names), peft, ComfyUI and OneTrainer. ``lora_mid`` is a Tucker
core (rank, rank, height, width) between two 1 × 1 factors; it joins ``down``: the rank stays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tadasu.auditing.adapter import Dense, Factored, Update
from tadasu.auditing.formats import principal
from tadasu.auditing.formats.group import ADAPTER, Group

TAILS = {
    rf"\.lora_down{ADAPTER}|\.lora_A{ADAPTER}": "down",
    rf"\.lora_up{ADAPTER}|\.lora_B{ADAPTER}": "up",
    r"\.lora(?:_linear_layer)?\.down\.weight|(?<=_lora)\.down\.weight": "down",
    r"\.lora(?:_linear_layer)?\.up\.weight|(?<=_lora)\.up\.weight": "up",
    r"(?<=_lora[12])\.down\.weight": "down",  # XLabs
    r"(?<=_lora[12])\.up\.weight": "up",
    r"\.lora_mid\.weight": "mid",
    rf"\.lora_embedding_A{ADAPTER}": "embedding_down",
    rf"\.lora_embedding_B{ADAPTER}": "embedding_up",
    rf"\.lora_E{ADAPTER}": "values",
    r"\.lora_(?:B|up)(?:\.(?!bias\Z)[\w-]+)?\.bias": "bias",
    r"\.alpha": "alpha",
}
#: peft's AdaLoRA divides by the rank it began with, and a little more.
_INITIAL_RANK, _SMALL = 12, 1e-5


def claims(roles: frozenset[str]) -> bool:
    """Two factors make it a LoRA."""
    return {"down", "up"} <= roles or {"embedding_down", "embedding_up"} <= roles


def build(group: Group) -> dict[str, Update]:
    """One factored update, and its bias where peft trained one.

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
    if "values" in group.tensors:
        down, scale = _adaptive(group, down)
    if up.shape[1] != rank:
        raise group.bad(f"has factors of {up.shape[1]} and {rank} ranks")
    group.bounded(scale, up, down)
    inputs = int(down.shape[1]) // max(1, torch.Size(kernel).numel())
    shape = group.sized((int(up.shape[0]), inputs, *kernel))
    plain = Factored(up=up, down=down, scale=scale, shape=shape)
    built: dict[str, Update] = {"": principal.moved(group, plain)}
    bias = group.tensors.get("bias")
    if bias is not None:
        if bias.numel() != shape[0]:
            raise group.bad(f"has a bias of {bias.numel()} values for {shape[0]} outputs")
        group.bounded(scale, bias)
        built[".bias"] = Dense(change=bias.reshape(-1), scale=scale, kind="lora")
    return built


def _adaptive(group: Group, down: Tensor) -> tuple[Tensor, float]:
    """AdaLoRA (Zhang et al., arXiv 2303.10512): ``P Λ Q``, with Λ joined to ``down``."""
    values = group.matrix("values")
    options = group.settings.options
    first = options.get("init_r", _INITIAL_RANK)
    alpha = group.settings.alpha
    if options.get("peft_type") != "ADALORA" or type(first) is not int or first < 1:
        raise group.bad("is an AdaLoRA without peft's configuration, which its scale depends on")
    if values.numel() != down.shape[0]:
        raise group.bad(f"has {values.numel()} singular values for {down.shape[0]} ranks")
    scale = (alpha if alpha and alpha > 0 else float(first)) / (first + _SMALL)
    return down.float() * values.float().reshape(-1, 1), scale


def _with_core(group: Group, down: Tensor) -> Tensor:
    """The core contracted with ``down``: (rank, inputs × height × width)."""
    core = group.tensors["mid"]
    if core.ndim < 3 or core.shape[1] != down.shape[0] or 0 in core.shape:
        raise group.bad(f"has a core of shape {tuple(core.shape)}, which does not fit")
    group.sized((int(core.shape[0]), int(down.shape[1]), *core.shape[2:]))
    joined = torch.einsum("pq...,qi->pi...", core.float(), down.float())
    return joined.reshape(core.shape[0], -1)
