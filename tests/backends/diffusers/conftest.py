"""Pipelines of real classes, tiny and with random weights, built from their configurations."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tokenizer(length: int = 77) -> Any:
    """A CLIP tokenizer that spells every word."""
    from transformers import CLIPTokenizer

    pieces = [*ascii_lowercase, *(letter + "</w>" for letter in [*ascii_lowercase, ",", "."])]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def text_encoder(width: int = 16, length: int = 77, projection: bool = False) -> Any:
    """A CLIP text model of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=56,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        projection_dim=width,
        bos_token_id=54,
        eos_token_id=55,
        pad_token_id=55,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def vae(channels: int = 4) -> Any:
    """An autoencoder that halves each side."""
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
    ).eval()


def unet(inputs: int = 4, **settings: Any) -> Any:
    """A conditional U-Net for 8 by 8 latents."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=inputs,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        cross_attention_dim=settings.pop("width", 16),
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **settings,
    ).eval()


def scheduler(name: str = "DDIMScheduler", **settings: Any) -> Any:
    """A scheduler with Stable Diffusion's noise levels."""
    import diffusers

    shared = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    if name == "DDIMScheduler":
        settings = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1} | settings
    return getattr(diffusers, name)(**shared, **settings)


def build_sd(cls: str = "StableDiffusionPipeline", **parts: Any) -> Any:
    """A Stable Diffusion 1.x pipeline whose texts matter: predictions differ by tenths."""
    import diffusers

    torch.manual_seed(0)
    given: dict[str, Any] = {
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "unet": unet(),
        "scheduler": scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    } | parts
    sensitive(given["unet"])
    pipe = getattr(diffusers, cls)(**given, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def sensitive(denoiser: Any) -> None:
    """Make an untrained denoiser depend on its text as strongly as a trained one."""
    for name, weight in denoiser.named_parameters():
        if any(part in name for part in ("attn2.to_v", "attn2.to_k", "attn2.to_out")):
            weight.mul_(6.0)


@pytest.fixture(scope="session")
def sd_parts() -> Any:
    """One pipeline whose parts several tests share; nobody may change them."""
    return build_sd()


@pytest.fixture
def sd(sd_parts: Any) -> Any:
    """A fresh Stable Diffusion pipeline around shared parts."""
    return build_like(sd_parts)


def build_like(pipe: Any, cls: str | None = None, **changes: Any) -> Any:
    """Another pipeline with the same parts."""
    import diffusers

    made = getattr(diffusers, cls) if cls else type(pipe)
    names = ("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor")
    parts = {name: getattr(pipe, name) for name in names}
    parts["scheduler"] = type(pipe.scheduler).from_config(pipe.scheduler.config)
    new = made(**(parts | changes), requires_safety_checker=False)
    new.set_progress_bar_config(disable=True)
    return new


@pytest.fixture(scope="session")
def like() -> Callable[..., Any]:
    """The function that builds another pipeline with the same parts."""
    return build_like


@pytest.fixture(scope="session")
def latents_of() -> Callable[..., torch.Tensor]:
    """The function that runs a pipeline on fixed seeds and returns its latents."""

    def run(pipe: Any, prompt: Any = "a cat", steps: int = 6, **settings: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(7)
        settings = {"output_type": "latent", "guidance_scale": 5.0} | settings
        result = pipe(
            prompt, num_inference_steps=steps, generator=generator, return_dict=False, **settings
        )
        latents: torch.Tensor = result[0]
        return latents

    return run


@pytest.fixture(scope="session")
def sdxl() -> Any:
    """A Stable Diffusion XL pipeline; nobody may change its parts."""
    from diffusers import StableDiffusionXLPipeline

    torch.manual_seed(0)
    denoiser = unet(
        width=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
        use_linear_projection=True,
    )
    sensitive(denoiser)
    pipe = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(projection=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=denoiser,
        scheduler=scheduler("EulerDiscreteScheduler"),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def built() -> Callable[[str], tuple[Any, dict[str, Any]]]:
    """The function that gives a tiny pipeline of a family and the arguments of its call."""
    path = Path(__file__).with_name("test_attach_families.py")
    spec = importlib.util.spec_from_file_location("tiny_families", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[str], tuple[Any, dict[str, Any]]] = module.built
    return found
