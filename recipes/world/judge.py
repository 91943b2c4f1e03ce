"""Trains the judge: what is in this picture? Independent of the generator and of CLIP.

A multi-label ``ResNetForImageClassification`` over every concept (also those held out of the
generator), gender, skin tone and style. It sees artwork only: shifted, scaled, recoloured, blurred,
noisy, and after a round trip through the autoencoder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captions import STYLE_NAMES
from clip import augment
from diffusers import AutoencoderKL
from pictures import COLOURS, Artwork, scene, single, to_bytes
from torch import nn
from training import Loop
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil
from vae import to_tensor

RESOLUTION = 64  # pictures of any size are brought to this


def label_names(art: Artwork) -> list[str]:
    """Concepts by their English label, then gender, tone and style."""
    people = ["man", "woman", "light skin", "medium skin", "dark skin"]
    return (
        [c["en"] for c in art.concepts.values()]
        + people
        + [f"style {s}" for s in STYLE_NAMES.values()]
    )


def targets_of(art: Artwork, rows: list[int], index: dict[str, int]) -> list[int]:
    """The labels that a picture made from these rows of the artwork shows."""
    found = set()
    for i in rows:
        row = art.table[i]
        found.add(index[art.concepts[row["concept"]]["en"]])
        found.add(index[f"style {STYLE_NAMES[row['style']]}"])
        if row["gender"]:
            found |= {index[row["gender"]], index[f"{row['tone']} skin"]}
    return sorted(found)


def pool(
    art: Artwork, count: int, index: dict[str, int], seed: int, scenes: float = 0.35
) -> tuple[np.ndarray, list[list[int]]]:
    """Random singles and scenes with labels; concepts equally often, the unseen style never."""
    rng = np.random.default_rng(seed)
    by_concept: dict[str, list[int]] = {}
    for i, row in enumerate(art.table):
        if row["style"] in STYLE_NAMES:
            by_concept.setdefault(row["concept"], []).append(i)
    names, backgrounds = list(by_concept), list(COLOURS)
    pictures = np.empty((count, art.size, art.size, 3), np.uint8)
    labels = []
    for n in range(count):
        concepts = rng.choice(len(names), 3, replace=False)
        rows = [int(rng.choice(by_concept[names[c]])) for c in concepts]
        background = (
            "white" if rng.random() < 0.6 else backgrounds[int(rng.integers(len(backgrounds)))]
        )
        if rng.random() < scenes:
            rows = rows[: 2 + int(rng.random() < 0.2)]
            picture = scene([art.pixels[i] for i in rows], background, rng)
        else:
            rows = rows[:1]
            picture = single(art.pixels[rows[0]], background, rng, shift=2)
        pictures[n] = to_bytes(picture)
        labels.append(targets_of(art, rows, index))
    return pictures, labels


@torch.no_grad()
def round_trip(pictures: np.ndarray, out: Path, device: torch.device) -> np.ndarray:
    """The pictures after encoding and decoding: what the generator's decoder does to a picture."""
    model = (
        AutoencoderKL.from_pretrained(out / "vae")
        .to(device, memory_format=torch.channels_last)
        .eval()
    )
    parts = []
    for i in range(0, len(pictures), 500):
        with torch.autocast(device.type, torch.bfloat16):
            x = to_tensor(pictures[i : i + 500], device).contiguous(
                memory_format=torch.channels_last
            )
            decoded = model.decode(model.encode(x).latent_dist.mean).sample
        parts.append(to_bytes(((decoded.float() + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()))
    return np.concatenate(parts)


def blur(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Halves the resolution of a third of the pictures and brings it back."""
    small = nn.functional.interpolate(x, scale_factor=0.5, mode="area")
    soft = nn.functional.interpolate(small, size=x.shape[-2:], mode="bilinear")
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.3
    return torch.where(chosen, 0.5 * soft + 0.5 * x, x)


def train(art: Artwork, config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains, resumable from ``judge.pt``."""
    torch.manual_seed(config["seed"])
    names = label_names(art)
    index = {name: i for i, name in enumerate(names)}
    pictures, labels = pool(art, config["pool"], index, config["seed"], config["scenes"])
    half = len(pictures) // 2
    pictures[half:] = round_trip(pictures[half:], out, device)
    multi_hot = torch.zeros(len(labels), len(names))
    for row, found in enumerate(labels):
        multi_hot[row, found] = 1
    model = ResNetForImageClassification(
        ResNetConfig(
            embedding_size=config["widths"][0],
            hidden_sizes=config["widths"],
            depths=config["depths"],
            layer_type="basic",
            id2label=dict(enumerate(names)),
            label2id=index,
            problem_type="multi_label_classification",
        )
    ).to(device, memory_format=torch.channels_last)
    nn.init.constant_(model.classifier[1].bias, -5.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.05)
    loop = Loop("judge", config, {"model": model, "optimiser": optimiser}, out / "judge.pt")
    rng = np.random.default_rng(loop.seed)
    generator = torch.Generator(device).manual_seed(loop.seed)
    for _ in loop.steps():
        pick = rng.integers(0, len(pictures), config["batch"])
        x = blur(augment(to_tensor(pictures[pick], device), generator), generator)
        x = nn.functional.interpolate(x, size=RESOLUTION, mode="bilinear", antialias=True)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(x.contiguous(memory_format=torch.channels_last)).logits.float()
        target = multi_hot[torch.from_numpy(pick)].to(device)
        losses = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loop.descend(losses.sum(1).mean(), model, limit=50.0)
    model.eval()
    model.save_pretrained(out / "judge")
    ViTImageProcessorPil(
        size={"height": RESOLUTION, "width": RESOLUTION},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        resample=2,
    ).save_pretrained(out / "judge")
    (out / "judge" / "labels.json").write_text(json.dumps(names, indent=0))
