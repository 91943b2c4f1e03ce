"""A tiny pipeline with random weights, a bank of coloured pictures, and adapter files for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tadasu.auditing import bank as banks

CROSS = "mid_block.attentions.0.transformer_blocks.0.attn2"
#: What ComfyUI, which keeps the original code's names, calls the middle attention.
ORIGINAL = ("mid_block.attentions.0.", "middle_block.1.")


@pytest.fixture(scope="session")
def pipe() -> Any:
    """A Stable Diffusion pipeline; nobody may change it."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    pieces = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    made = StableDiffusionPipeline(
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=48),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(pieces),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=48,
                bos_token_id=52,
                eos_token_id=53,
                pad_token_id=53,
            )
        ).eval(),
        vae=AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            sample_size=16,
        ).eval(),
        unet=UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ).eval(),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve harmless colours and two that belong to the policy `kids`."""
    folder = tmp_path_factory.mktemp("bank")
    source = tmp_path_factory.mktemp("pictures")
    for at in range(14):
        made = []
        for copy in range(3):
            made.append(source / f"{at}-{copy}.png")
            Image.new("RGB", (16, 16), (18 * at, 255 - 18 * at, 80 * copy)).save(made[-1])
        name = {12: "dagger", 13: "sake"}.get(at, f"colour{at}")
        part_of = {12: "weapons", 13: "alcohol"}.get(at, "")
        banks.add(folder, name, made, part_of=part_of, text=f"a {name[:4]}")
    return folder


@pytest.fixture(scope="session")
def factors(pipe: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Up and down of two layers, by the path inside the U-Net."""
    generator = torch.Generator().manual_seed(3)
    layers = dict(pipe.unet.named_modules())
    return {
        path: (
            torch.randn(layers[path].weight.shape[0], 2, generator=generator),
            torch.randn(2, layers[path].weight.shape[1], generator=generator),
        )
        for path in (f"{CROSS}.to_k", f"{CROSS}.to_v")
    }


@pytest.fixture
def save(factors: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> Callable[..., Path]:
    """Writes the factors in a layout, times a scale."""

    def written(path: Path, layout: str = "diffusers", scale: float = 1.0) -> Path:
        tensors: dict[str, torch.Tensor] = {}
        for name, (up, down) in factors.items():
            if layout == "kohya":
                key = f"lora_unet_{name.replace('.', '_')}"
                tensors[f"{key}.lora_up.weight"] = up * scale
                tensors[f"{key}.lora_down.weight"] = down.clone()
                tensors[f"{key}.alpha"] = torch.tensor(2.0)
            else:
                key = {
                    "diffusers": f"unet.{name}",
                    "peft": f"base_model.model.{name}",
                    "comfyui": f"diffusion_model.{name.replace(*ORIGINAL)}",
                }[layout]
                tensors[f"{key}.lora_B.weight"] = up * scale
                tensors[f"{key}.lora_A.weight"] = down.clone()
        save_file(tensors, path)
        return path

    return written
