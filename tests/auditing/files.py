"""Adapter files for the tests: one set of changes, written in many layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tadasu.auditing.base import Base

#: A few weights of a small U-Net of Stable Diffusion 1 and its text encoder.
SHAPES: dict[str, tuple[int, ...]] = {
    "unet.conv_in": (8, 4, 3, 3),
    "unet.down_blocks.0.attentions.0.proj_in": (8, 8, 1, 1),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (8, 12),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0": (8, 8),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj": (64, 8),
    "unet.down_blocks.0.resnets.0.conv1": (8, 8, 3, 3),
    "unet.down_blocks.0.resnets.0.time_emb_proj": (8, 16),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (16, 12),
    "unet.up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_v": (16, 12),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (12, 12),
    "text_encoder.text_model.encoder.layers.0.mlp.fc1": (24, 12),
}


def base(seed: int = 1) -> Base:
    generator = torch.Generator().manual_seed(seed)
    return Base.of(
        {
            f"{name}.weight": torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }
    )


def factors(rank: int = 2, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Up and down per weight, in the shapes of a file (convolutions keep their kernel)."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, (out, inner, *kernel) in SHAPES.items():
        ones = [1] * len(kernel)
        up = torch.randn(out, rank, *ones, generator=generator)
        found[name] = (up, torch.randn(rank, inner, *kernel, generator=generator))
    return found


def deltas(pairs: Mapping[str, tuple[Tensor, Tensor]], scale: float = 1.0) -> dict[str, Tensor]:
    """The naive product of each pair."""
    return {
        name: scale * (up.flatten(1).double() @ down.flatten(1).double()).reshape(SHAPES[name])
        for name, (up, down) in pairs.items()
    }


def kohya_name(name: str) -> str:
    part, _, rest = name.partition(".")
    prefix = {"unet": "lora_unet", "text_encoder": "lora_te"}[part]
    return f"{prefix}_{rest.replace('.', '_')}"


def kohya(pairs: Mapping[str, tuple[Tensor, Tensor]], alpha: float | None) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, (up, down) in pairs.items():
        tensors[f"{kohya_name(name)}.lora_up.weight"] = up
        tensors[f"{kohya_name(name)}.lora_down.weight"] = down
        if alpha is not None:
            tensors[f"{kohya_name(name)}.alpha"] = torch.tensor(alpha)
    return tensors


def save(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    save_file(
        {name: t.clone().contiguous() for name, t in tensors.items()}, str(path), metadata=metadata
    )
    return path
