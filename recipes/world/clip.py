"""Trains the CLIP whose text tower is the text-to-image model's text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import Artwork
from torch import nn
from training import Loop
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from vae import to_tensor


def new_model(config: dict[str, Any], size: int, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A small CLIP; text width = the context width of the text-to-image model."""
    width = config["text_width"]
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": config["text_layers"],
        "max_position_embeddings": 77,
        **special,
    } | tower(width, config["projection"])
    vision = {
        "num_hidden_layers": config["vision_layers"],
        "image_size": size,
        "patch_size": size // 4,
    } | tower(config["vision_width"], config["projection"])
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=config["projection"])
    )
    nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.05)
    nn.init.normal_(model.text_model.embeddings.position_embedding.weight, std=0.02)
    return model


def tower(width: int, projection: int) -> dict[str, int]:
    """What both towers' configurations derive from their width."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 64,
        "projection_dim": projection,
    }


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, brightness, contrast, noise; one draw per picture (NCHW in [-1, 1])."""
    count, device = len(x), x.device
    draw = lambda *shape: torch.rand(*shape, generator=generator, device=device)  # noqa: E731
    shift = (draw(count, 2) - 0.5) * (8 / x.shape[-1])
    scale = 1 + (draw(count, 1) - 0.5) * 0.2
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = scale[:, 0], scale[:, 0]
    theta[:, :, 2] = shift
    grid = nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = x * (1 + (draw(count, 1, 1, 1) - 0.5) * 0.3) + (draw(count, 1, 1, 1) - 0.5) * 0.2
    return (x + 0.05 * torch.randn(x.shape, generator=generator, device=device)).clamp(-1, 1)


def keys(samples: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Integers that say which samples share a caption, and which share their objects."""
    captions = {c: i for i, c in enumerate(dict.fromkeys(s["caption"] for s in samples))}
    objects = {o: i for i, o in enumerate(dict.fromkeys(tuple(s["objects"]) for s in samples))}
    return (
        np.array([captions[s["caption"]] for s in samples]),
        np.array([objects[tuple(s["objects"])] for s in samples]),
    )


def loss_of(logits: torch.Tensor, captions: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """Contrastive loss: equal captions are positives, others of the same objects do not count."""
    same_caption = captions[:, None] == captions[None]
    ignored = (objects[:, None] == objects[None]) & ~same_caption
    logits = logits.masked_fill(ignored, -1e4)
    target = same_caption.float() / same_caption.sum(1, keepdim=True)
    return (
        -(target * logits.log_softmax(1)).sum(1).mean()
        - (target * logits.log_softmax(0)).sum(0).mean()
    ) / 2


def train(art: Artwork, config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains for ``config['steps']``, resumable from ``clip.pt``."""
    torch.manual_seed(config["seed"])
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer", model_max_length=77)
    model = new_model(config, art.size, tokenizer).to(device)
    samples = json.loads((out / "samples.json").read_text())
    renders = np.load(out / "renders.npy", mmap_mode="r")
    captions, objects = keys(samples)
    tokens = tokenizer([s["caption"] for s in samples], padding=True, return_tensors="pt")
    lengths = tokens.attention_mask.sum(1)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=0.05, betas=(0.9, 0.98)
    )
    loop = Loop("clip", config, {"model": model, "optimiser": optimiser}, out / "clip.pt")
    rng = np.random.default_rng(loop.seed)
    generator = torch.Generator(device).manual_seed(loop.seed)
    for _ in loop.steps():
        pick = np.sort(rng.choice(len(samples), config["batch"], replace=False))
        width = int(lengths[pick].max())
        x = augment(to_tensor(renders[pick], device), generator)
        with torch.autocast(device.type, torch.bfloat16):
            found = model(
                input_ids=tokens.input_ids[pick, :width].to(device),
                attention_mask=tokens.attention_mask[pick, :width].to(device),
                pixel_values=x,
            )
        scale = model.logit_scale.clamp(max=4.6).exp()
        logits = found.text_embeds.float() @ found.image_embeds.float().T * scale
        same = [torch.from_numpy(each[pick]).to(device) for each in (captions, objects)]
        loop.descend(loss_of(logits, *same), model)
    model.eval()
    model.save_pretrained(out / "clip")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": art.size},
        crop_size=art.size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor.save_pretrained(out / "clip")
    tokenizer.save_pretrained(out / "clip")
