"""Trains the denoiser on latents and text states; saves a ``StableDiffusionPipeline``.

The text encoder is frozen, and the states of all captions are computed once; with ``text`` in the
configuration it is trained along.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from training import Loop, start_of
from transformers import CLIPTextModel, CLIPTokenizer
from vae import latents_of


def new_denoiser(
    config: dict[str, Any], out: Path, size: int, context: int
) -> UNet2DConditionModel:
    """The architecture of Stable Diffusion 1.x, smaller; with ``start``, one that exists."""
    if config.get("start"):
        return UNet2DConditionModel.from_pretrained(start_of(config, out) / "unet").float()
    channels = tuple(config["channels"])
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        layers_per_block=config["layers"],
        cross_attention_dim=context,
        attention_head_dim=config["heads"],
    )


def text_parts(config: dict[str, Any], out: Path) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """The text encoder and its tokenizer: own ones, or of the model it starts from."""
    if config.get("start"):
        folder = start_of(config, out)
        model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        return model, CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=77)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer", model_max_length=77)
    return CLIPTextModel.from_pretrained(out / "clip"), tokenizer


def tokens_of(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token numbers (caption, 77), padded as the pipeline pads them."""
    ids = tokenizer(
        captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    )
    return torch.as_tensor(ids.input_ids)


@torch.no_grad()
def text_states_of(
    config: dict[str, Any], out: Path, captions: list[str], device: torch.device
) -> torch.Tensor:
    """Text states of every distinct caption, the empty one first (cached in ``text.pt``)."""
    cache = out / "text.pt"
    if cache.exists():
        return torch.load(cache, weights_only=True)
    model, tokenizer = text_parts(config, out)
    model = model.to(device).eval()
    parts = []
    for ids in tokens_of(tokenizer, captions).split(500):
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(model(ids.to(device)).last_hidden_state.bfloat16().cpu())
    states = torch.cat(parts)
    torch.save(states, cache)
    return states


def scheduler(prediction: str) -> dict[str, Any]:
    """The noise schedule of Stable Diffusion 1.x."""
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
        "prediction_type": prediction,
        "clip_sample": False,
    }


def noise_levels() -> torch.Tensor:
    """Share of signal in the variance at each of the 1,000 time steps (``alphas_cumprod``)."""
    return DDPMScheduler(**scheduler("epsilon")).alphas_cumprod


def loss_weights(signal: torch.Tensor, prediction: str, limit: float) -> torch.Tensor:
    """Min-SNR weight of every timestep (Hang et al. 2023, eq. 8 and its conversions).

    Args:
        signal: share of signal in the variance by timestep (``alphas_cumprod``), in (0, 1).
        prediction: ``epsilon`` or ``v_prediction``, what the squared error is taken of.
        limit: largest weight of a squared error of the clean latent, in units of SNR.
    """
    snr = signal / (1 - signal)
    return snr.clamp(max=limit) / (snr if prediction == "epsilon" else snr + 1)


@dataclass(frozen=True)
class Group:
    """Samples of one size.

    Attributes:
        latents: of their pictures, scaled.
        caption: number of each sample's caption.
        batch: how many make a step; twice as large ones come half as many.
    """

    latents: torch.Tensor
    caption: torch.Tensor
    batch: int


def numbered(out: Path) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Every distinct caption, the empty one first, and by kind the number of each sample's caption.

    Kinds are as in ``samples-KIND.json``: the empty one for ``samples.json``, and ``-wide`` where
    there are wide samples.
    """
    kinds = [kind for kind in ("", "-wide") if not kind or (out / f"samples{kind}.json").exists()]
    said = {
        kind: [
            sample["caption"] for sample in json.loads((out / f"samples{kind}.json").read_text())
        ]
        for kind in kinds
    }
    captions = ["", *dict.fromkeys(text for texts in said.values() for text in texts)]
    index = {caption: i for i, caption in enumerate(captions)}
    numbers = {kind: torch.tensor([index[text] for text in texts]) for kind, texts in said.items()}
    return captions, numbers


def train(config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains, resumable from its checkpoint, each of which can be shipped."""
    torch.manual_seed(config["seed"])
    captions, numbers = numbered(out)
    groups = [
        Group(
            latents_of(config, out, device, kind=kind),
            caption,
            config["batch"] // (2 if kind else 1),
        )
        for kind, caption in numbers.items()
    ]
    text, tokenizer = text_parts(config, out)
    joint = bool(config.get("text"))
    edge, width = groups[0].latents.shape[-1], text.config.hidden_size
    model = new_denoiser(config, out, edge, width)
    model = model.to(device, memory_format=torch.channels_last)
    if (
        device.type == "cpu"
    ):  # at 64 latent positions plain attention trains a third faster than the fused kernel
        model.set_attn_processor(AttnProcessor())
    trained = nn.ModuleList([model, text.to(device).train()] if joint else [model])
    average = copy.deepcopy(trained).requires_grad_(False)
    noise = DDPMScheduler(**scheduler(config["prediction"]))
    weights = loss_weights(noise.alphas_cumprod, config["prediction"], config["snr"]).to(device)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=config["lr"], weight_decay=0.01)
    parts = {"model": model, "average": average[0], "optimiser": optimiser}
    if joint:
        parts |= {"text": text, "text average": average[1]}
        tokens = tokens_of(tokenizer, captions)
    else:
        states = text_states_of(config, out, captions, device)
    checkpoint = out / f"unet-{config['prediction']}.pt"
    loop = Loop("unet", config, parts, checkpoint, schedule="linear", every=100)
    rng = np.random.default_rng(loop.seed)
    torch.manual_seed(loop.seed)
    for step in loop.steps():
        group = groups[int(len(groups) > 1 and rng.random() < config["wide"])]
        pick = torch.from_numpy(rng.integers(0, len(group.latents), group.batch))
        empty = torch.rand(group.batch) < config["empty"]
        caption = torch.where(empty, 0, group.caption[pick])
        x0 = group.latents[pick].to(device).float()
        eps = torch.randn_like(x0)
        t = torch.randint(0, 1000, (group.batch,), device=device)
        xt = noise.add_noise(x0, eps, t).contiguous(memory_format=torch.channels_last)
        target = eps if config["prediction"] == "epsilon" else noise.get_velocity(x0, eps, t)
        with torch.autocast(device.type, torch.bfloat16):
            if joint:
                distinct, place = caption.unique(return_inverse=True)
                # through indexing, gradients would be summed in an order that varies
                spoken = text(tokens[distinct].to(device)).last_hidden_state
                said = spoken.index_select(0, place.to(device))
            else:
                said = states[caption].to(device)
            found = model(xt, t, said).sample
        error = (found.float() - target).square().mean((1, 2, 3))
        loop.descend((weights[t] * error).mean(), trained)
        decay = min(config["ema"], (step + 1) / (step + 10))
        with torch.no_grad():
            pairs = list(average.parameters()), list(trained.parameters())
            torch._foreach_lerp_(*pairs, 1 - decay)
    save(average[0], average[1] if joint else text, config, out)


def save(
    denoiser: UNet2DConditionModel, text: CLIPTextModel, config: dict[str, Any], out: Path
) -> None:
    """The pipeline in the folder layout that diffusers reads, in half precision."""
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(start_of(config, out) / "vae"),
        text_encoder=text,
        tokenizer=text_parts(config, out)[1],  # a used one would write its padding into its file
        unet=denoiser,
        scheduler=DDIMScheduler(
            **scheduler(config["prediction"]), set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(torch.float16).save_pretrained(out / folder_of(config["prediction"]))


def folder_of(prediction: str) -> str:
    """Where the pipeline of a training lies in its work folder.

    >>> folder_of("epsilon"), folder_of("v_prediction")
    ('pipeline', 'pipeline-v_prediction')
    """
    return "pipeline" if prediction == "epsilon" else f"pipeline-{prediction}"
