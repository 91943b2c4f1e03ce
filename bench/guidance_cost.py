"""What a guidance rule costs beside plain classifier-free guidance, in one run.

    python bench/guidance_cost.py --size small --rules "negative_prompt;sld;sega"

Denoisers have random weights: cost does not depend on what they learned. Every round times each
variant once in turn, so that other load on the machine touches all of them; the ratio is taken
within a round and the median over rounds is reported.
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

SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(block_out_channels=(32, 64), sample_size=16, cross_attention_dim=32),
    "small": dict(block_out_channels=(64, 128), sample_size=16, cross_attention_dim=64),
    "sd15": dict(
        block_out_channels=(320, 640, 1280, 1280), sample_size=64, cross_attention_dim=768
    ),
}


def pipeline(size: str, side: int, device: str, dtype: torch.dtype) -> Any:
    """A Stable Diffusion pipeline whose denoiser has one of the sizes."""
    from diffusers import UNet2DConditionModel

    from conftest import build_sd, text_encoder

    shape = SIZES[size] | ({"sample_size": side} if side else {})
    middle = len(shape["block_out_channels"]) - 1
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        layers_per_block=2 if size == "sd15" else 1,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * middle + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * middle,
        **shape,
    ).eval()
    pipe = build_sd(unet=unet, text_encoder=text_encoder(width=shape["cross_attention_dim"]))
    return pipe.to(device, dtype)


def variants(pipe: Any, rules: list[str]) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Every way to make an image: name to a function of the number of steps."""
    import tadasu as td
    from conftest import build_like

    side = pipe.unet.config.sample_size

    def call(made: Any, steps: int, **settings: Any) -> None:
        made(
            "a cat",
            num_inference_steps=steps,
            generator=torch.Generator(pipe.device).manual_seed(0),
            latents=torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0)).to(
                pipe.device, pipe.dtype
            ),
            **settings,
        )

    def plain(steps: int) -> dict[str, Any]:
        call(pipe, steps, output_type="latent")
        return {"rows": 2.0}

    def guided(rule: str) -> Callable[[int], dict[str, Any]]:
        def run(steps: int) -> dict[str, Any]:
            with td.attach(pipe, rule, ["a pistol"]) as attached:
                call(pipe, steps, output_type="latent")
            assert attached.record is not None
            return {"rows": statistics.fmean(attached.record.rows)}

        return run

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

    named = {"plain CFG": plain} | {rule: guided(rule) for rule in rules}
    return named | {"diffusers SLD": deprecated_sld, "diffusers SEGA": deprecated_sega}


def measure(pipe: Any, rules: list[str], steps: int, rounds: int) -> dict[str, Any]:
    """Seconds per image and the median ratio to plain guidance per variant."""
    made = variants(pipe, rules)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    rows: dict[str, float] = {}
    for round_ in range(rounds + 1):
        for name, run in made.items():
            begun = time.perf_counter()
            rows[name] = run(steps)["rows"]
            if pipe.device.type == "cuda":
                torch.cuda.synchronize()
            if round_:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
    base = seconds["plain CFG"]
    return {
        name: {
            "seconds": statistics.median(times),
            "ratio": statistics.median(a / b for a, b in zip(times, base, strict=True)),
            "rows": rows[name],
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Print a table, or JSON with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--side", type=int, default=0, help="side of the latents, if another")
    parser.add_argument("--rules", default="negative_prompt;sld;sega;presence")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pipe = pipeline(given.size, given.side, given.device, getattr(torch, given.dtype))
    table = measure(pipe, given.rules.split(";"), given.steps, given.rounds)
    if given.json:
        print(json.dumps({"size": given.size, "steps": given.steps, "table": table}, indent=1))
        return
    print(f"{'variant':<28}{'s/image':>9}{'ratio':>8}{'rows':>7}")
    for name, row in table.items():
        print(f"{name:<28}{row['seconds']:>9.3f}{row['ratio']:>8.2f}{row['rows']:>7.2f}")


if __name__ == "__main__":
    main()
