"""Time of ``erase`` as typed against the published 2025 script, on SD 1.5 and SDXL shapes.

    OMP_NUM_THREADS=1 python bench/editing_as_typed.py --out docs/editing/speed

Both start from a loaded pipeline and names as text and end with the solved edit: tokenizing,
encoding, reading of rows and solving count, loading and writing do not; ours also fingerprints the
encoder and measures itself. The published script is rebuilt operation for operation: one
``encode_prompt`` a text, outputs of every layer, outer products concept by concept and one explicit
inverse a layer. Text encoders have the real shapes and random weights; of the denoiser only the
projections that are edited hold values. Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from torch import nn

BASE = {"vocab_size": 54, "max_position_embeddings": 77, "bos_token_id": 52, "eos_token_id": 53}
LARGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
LARGE |= {"num_attention_heads": 12, "projection_dim": 768}
BIG = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
BIG |= {"num_attention_heads": 20, "projection_dim": 1280}


def tokenizer() -> Any:
    from transformers import CLIPTokenizer

    letters = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase)]
    pieces = [*letters, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={p: n for n, p in enumerate(pieces)}, merges=[], model_max_length=77)


def pipeline(shape: str) -> Any:
    """A pipeline of real shapes; the denoiser is empty but for its text projections."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    text = CLIPTextModel(CLIPTextConfig(**BASE, **LARGE, pad_token_id=53)).eval()
    xl = shape == "SDXL"
    more = {
        "cross_attention_dim": 2048,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
    }
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            **(more if xl else {"cross_attention_dim": 768, "attention_head_dim": 8})
        )
    for name, module in unet.named_modules():
        if "attn2" in name and name.endswith(("to_k", "to_v")):
            module.weight = nn.Parameter(torch.randn(module.weight.shape) * 0.03)
    parts = {"vae": None, "unet": unet, "scheduler": diffusers.DDIMScheduler()}
    if not xl:
        return diffusers.StableDiffusionPipeline(
            text_encoder=text, tokenizer=tokenizer(), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False, **parts,
        )  # fmt: skip
    big = CLIPTextModelWithProjection(CLIPTextConfig(**BASE, **BIG, pad_token_id=53)).eval()
    return diffusers.StableDiffusionXLPipeline(
        text_encoder=text, tokenizer=tokenizer(), text_encoder_2=big, tokenizer_2=tokenizer(),
        **parts,
    )  # fmt: skip


def published(pipe: Any, names: list[str], kept: list[str], patience: float) -> float:
    """CPU seconds of the 2025 script; layers beyond ``patience`` seconds are scaled up."""
    start = time.process_time()
    modules = [
        m for n, m in pipe.unet.named_modules() if "attn2" in n and n[-4:] in ("to_k", "to_v")
    ]
    modules = copy.deepcopy(modules)
    rows: dict[str, Any] = {}
    for text in dict.fromkeys([*names, "", *kept]):
        encoded = pipe.encode_prompt(
            prompt=text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        ids = pipe.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        rows[text] = encoded[0][:, ids["attention_mask"].sum() - 2, :]
    guides = {
        text: [module(rows[text]) for module in modules] for text in dict.fromkeys(["", *kept])
    }
    before = time.process_time()
    sizes = [m.weight.numel() + m.weight.shape[1] ** 2 for m in modules]
    order = [(k * 11) % len(modules) for k in range(len(modules))]
    done = 0
    for count, number in enumerate(order, 1):
        weight = modules[number].weight
        mat1, mat2 = 0.5 * weight, 0.5 * torch.eye(weight.shape[1])
        for text, guide in [*((name, "") for name in names), *((text, text) for text in kept)]:
            c_i, v_i_star = rows[text].T, guides[guide][number].T
            mat1 += v_i_star @ c_i.T
            mat2 += c_i @ c_i.T
        _ = mat1 @ torch.inverse(mat2.float())
        done += sizes[number]
        if time.process_time() - before > patience and count >= 4:
            break
    return before - start + (time.process_time() - before) * sum(sizes) / done


def words(count: int, start: int) -> list[str]:
    """Names of five letters."""
    return [
        "".join(ascii_lowercase[(number * 7 + place * 3 + number // 26 ** (place % 2 + 1)) % 26]
                for place in range(4)) + ascii_lowercase[number % 26]
        for number in range(start, start + count)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/editing/speed"))
    parser.add_argument("--shapes", nargs="*", default=["SD 1.5", "SDXL"])
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--kept", type=int, nargs="*", default=[0, 10])
    parser.add_argument("--patience", type=float, default=10.0)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    import tadasu as td

    found = []
    for shape in args.shapes:
        pipe = pipeline(shape)
        for count in args.counts:
            for kept in args.kept:
                names, still = words(count, 0), words(kept, 1000)
                row: dict[str, Any] = {"shape": shape, "names": count, "preserved": kept}
                row["published_s"] = published(pipe, names, still, args.patience)
                for solver in ("uce", "uce:v2"):
                    start = time.process_time()
                    td.editing.erase(
                        pipe, names, preserve=still, options=td.editing.Options(solver=solver)
                    )
                    row[solver] = time.process_time() - start
                found.append(row)
                print(row, flush=True)
    lines = [
        "| shape | names | preserved | published s | uce s | ratio | uce:v2 s | ratio |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['shape']} | {r['names']} | {r['preserved']} | {r['published_s']:.1f} "
            f"| {r['uce']:.1f} | {r['published_s'] / r['uce']:.1f} × "
            f"| {r['uce:v2']:.1f} | {r['published_s'] / r['uce:v2']:.1f} × |"
            for r in found
        ),
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "as_typed.md").write_text("\n".join(lines) + "\n")
    (args.out / "as_typed.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
