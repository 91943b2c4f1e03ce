"""What a guidance rule costs beside plain classifier-free guidance, in one run.

    python bench/guidance_cost.py --size sd15 --side 16 --rules "sld;sega;presence@kids"
    python bench/guidance_cost.py --size sdxl --side 16 --dtype bfloat16 --rules "sld;presence"

Denoisers have random weights: cost does not depend on what they learned. ``sd15`` and ``sdxl`` have
every layer of Stable Diffusion 1.5 (0.86 billion parameters) and SDXL (2.6 billion); text encoders
and VAE are tiny, and pictures are not decoded. Every round times each variant once in turn, and
the ratio is taken within a round; the median over rounds is reported. On a CPU the clock is the
process's own processor time, so other load on the machine does not count.

A rule is attached with one concept, ``a pistol``, or as ``RULE@kids`` with every concept of the
policy ``kids``; ``@harmless`` also takes every concept, with a prompt that is none of them. The
prompt is otherwise a restricted one, ``a pistol``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "backends" / "diffusers"))

CROSS, PLAIN = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


def shape(blocks: list[int], text: int, **settings: Any) -> dict[str, Any]:
    """A U-Net in the manner of Stable Diffusion 1.x: no attention at the lowest resolution."""
    middle = len(blocks) - 1
    return dict(
        block_out_channels=blocks,
        cross_attention_dim=text,
        attention_head_dim=8,
        down_block_types=(CROSS[0],) * middle + (PLAIN[0],),
        up_block_types=(PLAIN[1],) + (CROSS[1],) * middle,
        **settings,
    )


SIZES: dict[str, dict[str, Any]] = {
    "tiny": shape([32, 64], 32, sample_size=16, layers_per_block=1),
    "small": shape([64, 128], 64, sample_size=16, layers_per_block=1),
    "sd15": shape([320, 640, 1280, 1280], 768, sample_size=64, layers_per_block=2),
    "sdxl": dict(
        sample_size=128,
        layers_per_block=2,
        block_out_channels=(320, 640, 1280),
        cross_attention_dim=768 + 1280,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        down_block_types=(PLAIN[0], CROSS[0], CROSS[0]),
        up_block_types=(CROSS[1], CROSS[1], PLAIN[1]),
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + 1280,
    ),
}


def denoiser(size: str, side: int, dtype: torch.dtype) -> Any:
    """A U-Net of one of the sizes, filled with small random numbers."""
    from diffusers import UNet2DConditionModel

    settings = SIZES[size] | ({"sample_size": side} if side else {})
    with torch.device("meta"):  # the layers' own initialisation takes minutes at full size
        unet = UNet2DConditionModel(in_channels=4, out_channels=4, **settings)
    unet = unet.to(dtype).to_empty(device="cpu").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if weight.ndim > 1:
                weight.uniform_(-1, 1).mul_(weight[0].numel() ** -0.5)
            else:
                weight.fill_(float(name.endswith("weight")))
    return unet


def pipeline(size: str, side: int, device: str, dtype: torch.dtype) -> Any:
    """A pipeline whose denoiser has one of the sizes."""
    from conftest import build_sd, scheduler, text_encoder, tokenizer, vae

    unet = denoiser(size, side, dtype)
    if size != "sdxl":
        text = text_encoder(width=SIZES[size]["cross_attention_dim"])
        return build_sd(unet=unet, text_encoder=text).to(device, dtype)
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(width=768),
        text_encoder_2=text_encoder(width=1280, projection=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet,
        scheduler=scheduler(),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype)


def variants(pipe: Any, rules: list[str]) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Every way to make an image: name to a function of the number of steps."""
    import tadasu as td

    side = pipe.unet.config.sample_size
    noise = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    everything = td.Policy.load("kids").concepts

    def call(made: Any, steps: int, prompt: str = "a pistol", **settings: Any) -> None:
        generator = torch.Generator(pipe.device).manual_seed(0)
        latents = noise.to(pipe.device, pipe.dtype)
        made(prompt, num_inference_steps=steps, generator=generator, latents=latents, **settings)

    def plain(steps: int) -> dict[str, Any]:
        call(pipe, steps, output_type="latent")
        return {"rows": 2.0}

    def guided(name: str) -> Callable[[int], dict[str, Any]]:
        rule, _, case = name.partition("@")
        concepts = everything if case else ["a pistol"]
        prompt = "two cats in a garden" if case == "harmless" else "a pistol"

        def run(steps: int) -> dict[str, Any]:
            with td.attach(pipe, rule, concepts) as attached:
                call(pipe, steps, prompt, output_type="latent")
            assert attached.record is not None
            return {"rows": statistics.fmean(attached.record.rows)}

        return run

    named = {"plain CFG": plain} | {rule: guided(rule) for rule in rules}
    if type(pipe).__name__ != "StableDiffusionPipeline":  # the retired pipelines are for 1.x only
        return named
    from conftest import build_like

    safe = build_like(pipe, "StableDiffusionPipelineSafe")
    semantic = build_like(pipe, "SemanticStableDiffusionPipeline")
    # The retired SLD pipeline always decodes; a picture of a few pixels costs little.
    safe.decode_latents = lambda latents: latents.float().permute(0, 2, 3, 1).cpu().numpy()

    def deprecated_sld(steps: int) -> dict[str, Any]:
        call(safe, steps, output_type="np")
        return {"rows": 3.0}

    def deprecated_sega(steps: int) -> dict[str, Any]:
        call(semantic, steps, output_type="latent", editing_prompt=["a pistol"])
        return {"rows": 3.0}

    return named | {"diffusers SLD": deprecated_sld, "diffusers SEGA": deprecated_sega}


def measure(pipe: Any, rules: list[str], steps: int, rounds: int) -> dict[str, Any]:
    """Seconds per image and the median ratio to plain guidance per variant."""
    made = variants(pipe, rules)
    gpu = pipe.device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in made}
    rows: dict[str, float] = {}
    for run in made.values():  # warms up, and encodes the concepts' names
        run(1)
    for _ in range(rounds):
        for name, run in made.items():
            begun = clock()
            rows[name] = run(steps)["rows"]
            if gpu:
                torch.cuda.synchronize()
            seconds[name].append(clock() - begun)
    base = seconds["plain CFG"]
    ratios = {
        name: [own / plain for own, plain in zip(times, base, strict=True)]
        for name, times in seconds.items()
    }
    return {
        name: {
            "seconds": statistics.median(times),
            "ratio": statistics.median(ratios[name]),
            "lowest": min(ratios[name]),
            "highest": max(ratios[name]),
            "rows": rows[name],
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Print a table, or JSON with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--side", type=int, default=0, help="side of the latents, if another")
    parser.add_argument(
        "--rules", default="negative_prompt;sld;sega;presence@kids;presence@harmless"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        pipe = pipeline(given.size, given.side, given.device, getattr(torch, given.dtype))
        table = measure(pipe, given.rules.split(";"), given.steps, given.rounds)
    if given.json:
        print(json.dumps({"settings": vars(given), "table": table}, indent=1))
        return
    print(f"{'variant':<28}{'s/image':>9}{'ratio':>8}{'lowest':>8}{'highest':>8}{'rows':>7}")
    for name, row in table.items():
        print(
            f"{name:<28}{row['seconds']:>9.3f}{row['ratio']:>8.3f}{row['lowest']:>8.3f}"
            f"{row['highest']:>8.3f}{row['rows']:>7.2f}"
        )


if __name__ == "__main__":
    main()
