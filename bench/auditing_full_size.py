"""Forwards per second of a full-size Stable Diffusion 1.5 denoiser as the probe runs it.

    python bench/auditing_full_size.py --batch 64 --repeats 20

Random weights, bfloat16, a LoRA of rank 16 on all attention, 64 x 64 latents. The card's peak is
measured with one large product in the same precision. Needs a GPU with 8 GB.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tadasu.auditing.adapter import Factored
from tadasu.auditing.merge import merge
from tadasu.backends.diffusers.denoise import PipelineDenoiser

#: Multiplications and additions of one forward at 64 x 64, without counting any twice.
TERAFLOPS = 0.803


def pipeline(device: str) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    letters = [chr(at) for at in range(97, 123)]
    pieces = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    tokenizer = CLIPTokenizer(
        vocab={p: at for at, p in enumerate(pieces)}, merges=[], model_max_length=77
    )
    text = CLIPTextConfig(
        vocab_size=len(pieces), hidden_size=768, intermediate_size=1024, num_hidden_layers=2,
        num_attention_heads=12, bos_token_id=52, eos_token_id=53, pad_token_id=53,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=768,
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=8,
    )
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(32,), norm_num_groups=4, sample_size=64),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet.to(memory_format=torch.channels_last),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipe.to(device, torch.bfloat16)


def peak(device: str, size: int = 8192, repeats: int = 20) -> float:
    """Measured TFLOP/s of one product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, repeats) / 1e12


def seconds(work, repeats: int) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    denoiser = PipelineDenoiser(pipeline("cuda"), batch=given.batch)
    updates = {
        f"unet.{name}": Factored(
            up=torch.randn(layer.weight.shape[0], 16) * 0.01,
            down=torch.randn(16, layer.weight.shape[1]) * 0.01,
        )
        for name, layer in denoiser.network.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    }
    weights = merge([(updates, 1.0)], denoiser.parameter).weights
    x = torch.randn(given.batch, 4, 64, 64, device="cuda").to(memory_format=torch.channels_last)
    t = torch.randint(1, 999, (given.batch,), device="cuda")
    rows = torch.zeros(given.batch, dtype=torch.long, device="cuda")
    found = {
        "device": torch.cuda.get_device_name(),
        "batch": given.batch,
        "peak_tflops": peak("cuda"),
    }
    for name, laid in (("base", {}), ("with a LoRA of rank 16", weights)):
        with denoiser.adapted(laid, [""]) as predict:
            spent = seconds(lambda predict=predict: predict(x, t, rows), given.repeats)
        rate = given.batch / spent
        share = rate * TERAFLOPS / found["peak_tflops"]
        found[name] = {"forwards_per_second": rate, "share_of_peak": share}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
