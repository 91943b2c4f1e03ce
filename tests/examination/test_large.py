"""Large models: SDXL from end to end, and what saves time where there is no accelerator."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tadasu.backends.diffusers.denoise import PipelineDenoiser
from tadasu.errors import BadInput
from tadasu.examination.run import Audit, Auditor, audit
from tadasu.examination.settings import settings


@pytest.fixture(scope="module")
def sdxl() -> Any:
    """SDXL's blocks, conditioning and keys, every width a tenth of its own or less."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

    torch.manual_seed(0)
    pieces = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}

    def text(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(pieces),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=40,
            bos_token_id=52,
            eos_token_id=53,
            pad_token_id=53,
        )

    made = StableDiffusionXLPipeline(
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77),
        tokenizer_2=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77),
        text_encoder=CLIPTextModel(text(24)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text(40)).eval(),
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=4,
            sample_size=64,
            force_upcast=True,
        ).eval(),
        unet=UNet2DConditionModel(
            sample_size=8,
            layers_per_block=2,
            block_out_channels=(16, 32, 64),
            norm_num_groups=4,
            cross_attention_dim=64,
            attention_head_dim=(2, 4, 8),
            transformer_layers_per_block=(1, 2, 10),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 40,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ).eval(),
        scheduler=EulerDiscreteScheduler(),
    )
    made.set_progress_bar_config(disable=True)
    return made


def kohya(pipe: Any, path: Path) -> Path:
    """A LoRA on attention and both text encoders, under the names that SDXL files have."""
    tensors: dict[str, torch.Tensor] = {}
    chance = torch.Generator().manual_seed(1)
    parts = {"lora_unet": pipe.unet, "lora_te1": pipe.text_encoder, "lora_te2": pipe.text_encoder_2}
    for prefix, part in parts.items():
        for name, layer in part.named_modules():
            if not name.endswith(("to_q", "to_k", "to_v", "q_proj")):
                continue
            whole = prefix == "lora_unet" or name.startswith("text_model")
            full = name if whole else f"text_model.{name}"
            key = f"{prefix}_{full.replace('.', '_')}"
            out, inputs = layer.weight.shape
            tensors[f"{key}.lora_up.weight"] = 0.1 * torch.randn(out, 2, generator=chance)
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, inputs, generator=chance)
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sdxl_is_audited_from_end_to_end(
    sdxl: Any, bank: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    path = kohya(sdxl, tmp_path / "a.safetensors")
    found = list(audit(path, base=sdxl.to(dtype), bank=bank, folder=tmp_path / "kept"))
    assert {each.concept for each in found} == {"dagger", "sake"}
    assert {each.conclusion for each in found} <= {"present", "absent", "undecided"}
    assert {each.coverage for each in found} == {1.0}
    assert all(each.score is not None for each in found)
    sdxl.to(torch.float32)


def test_a_lower_resolution_is_used_everywhere(pipe: Any, bank: Path, tmp_path: Path) -> None:
    auditor = Auditor(Audit(base=pipe, bank=str(bank), resolution=8, gradients=1))
    examiner = auditor.examiner
    assert tuple(examiner.latents("dagger").shape[1:]) == (4, 4, 4)
    assert examiner.gradients.concepts
    assert examiner.settings.key != settings("calibrated").key


@pytest.mark.parametrize("side", [7, 6, 32, -8])
def test_a_resolution_that_a_model_cannot_draw_is_refused(pipe: Any, side: int) -> None:
    with pytest.raises(BadInput, match="multiple of 4 up to the model's own, 16"):
        PipelineDenoiser(pipe, side=side)
