"""Distils the shipped pipeline into a LoRA file that draws in a few steps, without guidance.

Latent consistency distillation with adapters (Luo et al. 2023, "LCM-LoRA"; Song et al. 2023): the
student's clean latent at a noise level is trained towards its own at the next lower one, where a
step of DDIM with the frozen model leads, classifier-free guidance included. The scale of guidance
is thereby built in, and sampling needs one pass of the denoiser a step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig, get_peft_model_state_dict
from text_to_image import noise_levels, numbered, text_states_of
from torch import nn
from training import WORLD, Loop
from vae import latents_of

SIGMA_DATA, TIMES = 0.5, 10.0  # as in LCM's scheduler: where the network gives way to its input
TARGETS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "conv_in", "conv_out",
]  # fmt: skip
FILE = "few-step.safetensors"


def clean_latent(eps: torch.Tensor, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The clean latent that a noise prediction implies at a share of signal in the variance."""
    return (x - (1 - share).sqrt() * eps) / share.sqrt()


def consistent(
    eps: torch.Tensor, x: torch.Tensor, share: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """Where the student says that a latent at time step ``t`` leads; the identity at step 0."""
    scaled = (t.float() * TIMES).view(-1, 1, 1, 1)
    skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    out = scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
    return skip * x + out * clean_latent(eps, x, share)


def train(config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains, resumable from ``few-step.pt``; writes a diffusers LoRA file.

    Args:
        config: with ``rank``, ``jumps`` (time steps that DDIM divides the schedule into),
            ``scale`` (of guidance, built in) and what `Loop` needs.
        out: folder with the data and caches of the stage text-to-image.
        device: of the training.
    """
    captions, numbers = numbered(out)
    caption_of, latents = numbers[""], latents_of({}, out, device)
    states = text_states_of({}, out, captions, device)
    torch.manual_seed(config["seed"])
    teacher, student = (
        UNet2DConditionModel.from_pretrained(WORLD / "pipeline" / "unet").float() for _ in range(2)
    )
    student.requires_grad_(False)
    student.add_adapter(
        LoraConfig(r=config["rank"], lora_alpha=config["rank"], target_modules=TARGETS)
    )
    for model in (teacher, student):
        model.to(device, memory_format=torch.channels_last)
        if device.type == "cpu":
            model.set_attn_processor(AttnProcessor())
    teacher.requires_grad_(False)
    trained = {n: p for n, p in student.named_parameters() if p.requires_grad}
    factors = nn.ParameterDict({n.replace(".", "|"): p for n, p in trained.items()})
    average = nn.ParameterDict({n: p.detach().clone() for n, p in factors.items()})
    optimiser = torch.optim.AdamW(factors.values(), lr=config["lr"], weight_decay=0.0)
    parts = {"factors": factors, "average": average, "optimiser": optimiser}
    loop = Loop("few-step", config, parts, out / "few-step.pt", schedule="linear", every=50)
    signal = noise_levels().to(device)
    rng, batch, jump = np.random.default_rng(loop.seed), config["batch"], 1000 // config["jumps"]
    torch.manual_seed(loop.seed)
    empty = states[:1].to(device).expand(batch, -1, -1)
    for step in loop.steps():
        pick = torch.from_numpy(rng.integers(0, len(latents), batch))
        x0, text = latents[pick].to(device).float(), states[caption_of[pick]].to(device)
        start = torch.randint(1, config["jumps"] + 1, (batch,), device=device) * jump - 1
        end = (start - jump).clamp(min=0)
        noise = torch.randn_like(x0)
        share, nearer_share = (signal[at].view(-1, 1, 1, 1) for at in (start, end))
        x = share.sqrt() * x0 + (1 - share).sqrt() * noise
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                both = teacher(
                    torch.cat([x, x]), torch.cat([start, start]), torch.cat([empty, text])
                ).sample.float()
                none, asked = both.chunk(2)
                eps = none + config["scale"] * (asked - none)
                nearer = nearer_share.sqrt() * clean_latent(eps, x, share)
                nearer = nearer + (1 - nearer_share).sqrt() * eps
                there = student(nearer, end, text).sample.float()
                target = consistent(there, nearer, nearer_share, end)
            found = student(x, start, text).sample
        made = consistent(found.float(), x, share, start)
        loss = ((made - target).square() + config["huber"] ** 2).sqrt().sub(config["huber"]).mean()
        loop.descend(loss, factors)
        decay = min(config["ema"], (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(factors.values()), 1 - decay)
    with torch.no_grad():
        torch._foreach_copy_(list(factors.values()), list(average.values()))
    layers = get_peft_model_state_dict(student)
    StableDiffusionPipeline.save_lora_weights(
        out,
        unet_lora_layers={k: v.half().contiguous() for k, v in layers.items()},
        weight_name=FILE,
    )
