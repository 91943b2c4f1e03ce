"""Pipelines of the four families, tiny and with random weights, built from configurations."""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_lowercase
from typing import Any

import pytest
import torch

WORDS = ["pistol", "cat", "bomb", "toy", "a", "red", "dog", "ピストル"]
WORDS += ["picture", "of", "the", "photo", "one", "an", "image"]


def clip_tokenizer(pad: str = "<|endoftext|>") -> Any:
    from transformers import CLIPTokenizer

    letters = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase)]
    pieces = [*letters, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16, pad_token=pad)


def t5_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *WORDS]
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def clip_encoder(width: int = 16, *, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5_encoder(width: int = 32) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return T5EncoderModel(config).eval()


def autoencoder(channels: int = 4) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        use_quant_conv=channels == 4,
        use_post_quant_conv=channels == 4,
        shift_factor=0.0,
    ).eval()


def unet(width: int, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    made = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        cross_attention_dim=width,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **more,
    ).eval()
    return _sensitive(made)


@torch.no_grad()
def _sensitive(denoiser: Any) -> Any:
    """Make random weights care about text as much as trained ones do."""
    for name, weight in denoiser.named_parameters():
        if any(part in name for part in ("attn2.to_", "context_embedder.w", "add_embedding.w")):
            weight.mul_(6.0)
    return denoiser


def sd() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=clip_encoder(),
        tokenizer=clip_tokenizer(),
        unet=unet(16),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def xl() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=clip_encoder(),
        text_encoder_2=clip_encoder(24, projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad="a"),
        unet=unet(
            40,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=24 + 6 * 4,
        ),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        add_watermarker=False,
    )


def sd3() -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    denoiser = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        out_channels=4,
    ).eval()
    return StableDiffusion3Pipeline(
        vae=autoencoder(4),
        text_encoder=clip_encoder(8, projected=True),
        text_encoder_2=clip_encoder(16, projected=True),
        text_encoder_3=t5_encoder(32),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
        transformer=_sensitive(denoiser),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    denoiser = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4),
    ).eval()
    return FluxPipeline(
        vae=autoencoder(1),
        text_encoder=clip_encoder(16),
        text_encoder_2=t5_encoder(32),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=_sensitive(denoiser),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


BUILDERS: dict[str, Callable[[], Any]] = {"sd": sd, "xl": xl, "sd3": sd3, "flux": flux}


@pytest.fixture(scope="session")
def families() -> dict[str, Any]:
    """One pipeline per family, shared; a test that writes must take back what it wrote."""
    made = {}
    for name, build in BUILDERS.items():
        torch.manual_seed(0)
        made[name] = build()
        made[name].set_progress_bar_config(disable=True)
    return made


@pytest.fixture(params=list(BUILDERS))
def pipe(request: pytest.FixtureRequest, families: dict[str, Any]) -> Any:
    """Each family in turn."""
    return families[request.param]


@pytest.fixture(scope="session")
def picture() -> Callable[..., torch.Tensor]:
    """Latents of one prompt, always from the same seed."""

    def draw(pipe: Any, prompt: str = "a pistol") -> torch.Tensor:
        more: dict[str, Any] = {}
        if hasattr(pipe, "transformer"):
            more = {"max_sequence_length": 8}
        size = 16
        generator = torch.Generator().manual_seed(3)
        result: torch.Tensor = pipe(
            prompt,
            num_inference_steps=2,
            generator=generator,
            output_type="latent",
            height=size,
            width=size,
            guidance_scale=4.0,
            return_dict=False,
            **more,
        )[0]
        return result

    return draw
