"""Trains the autoencoder: ``AutoencoderKL`` with four latent channels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from pictures import COLOURS, Artwork, scene, single, to_bytes
from torch import nn
from training import WORLD, Loop, start_of
from transformers import CLIPImageProcessorPil, CLIPModel


def pool(art: Artwork, count: int, seed: int) -> np.ndarray:
    """Random singles and scenes over every artwork, also the held-out ones (uint8, NHWC)."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    out = np.empty((count, art.size, art.size, 3), np.uint8)
    for i in range(count):
        picks = art.pixels[rng.integers(0, len(art.pixels), 3)]
        background = names[int(rng.integers(len(names)))]
        if i % 4 == 0:
            picture = scene(list(picks[: 2 + int(rng.random() < 0.3)]), background, rng)
        else:
            picture = single(picks[0], "white" if i % 4 < 3 else background, rng, shift=3)
        out[i] = to_bytes(picture)
    return out


def to_tensor(pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 NHWC to float NCHW in [-1, 1]."""
    return torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def edges(x: torch.Tensor) -> torch.Tensor:
    """Horizontal and vertical differences: sharpness counts, not only brightness."""
    return torch.cat(
        [(x[..., :, 1:] - x[..., :, :-1]).flatten(1), (x[..., 1:, :] - x[..., :-1, :]).flatten(1)],
        1,
    )


def train(art: Artwork, config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains, resumable from ``vae.pt``; saves the model with its scaling factor."""
    torch.manual_seed(config["seed"])
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=tuple(config["channels"]),
        down_block_types=("DownEncoderBlock2D",) * len(config["channels"]),
        up_block_types=("UpDecoderBlock2D",) * len(config["channels"]),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=art.size,
    ).to(device, memory_format=torch.channels_last)
    data = pool(art, config["pool"], config["seed"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-4)
    loop = Loop("vae", config, {"model": model, "optimiser": optimiser}, out / "vae.pt")
    rng = np.random.default_rng(loop.seed)
    for _ in loop.steps():
        x = to_tensor(data[rng.integers(0, len(data), config["batch"])], device)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = model.encode(x).latent_dist
            decoded = model.decode(posterior.sample()).sample
        loss = reconstruction_loss(decoded.float(), x)
        loss = loss + config["kl"] * posterior.kl().mean() / x[0].numel()
        loop.descend(loss, model)
    finish(model, data, out, device)


@torch.no_grad()
def latents_of(
    config: dict[str, Any], out: Path, device: torch.device, *, kind: str = ""
) -> torch.Tensor:
    """Scaled latents of every rendered sample (half precision, cached in ``latents.pt``).

    Args:
        config: of the training that asks; its ``start`` says whose autoencoder it is.
        out: the work folder.
        device: that encodes.
        kind: of samples, as in ``renders-KIND.npy``; empty for ``renders.npy``.
    """
    cache = out / f"latents{kind}.pt"
    if cache.exists():
        return torch.load(cache, weights_only=True)
    model = (
        AutoencoderKL.from_pretrained(start_of(config, out) / "vae")
        .float()
        .to(device, memory_format=torch.channels_last)
        .eval()
    )
    renders = np.load(out / f"renders{kind}.npy", mmap_mode="r")
    parts = []
    for i in range(0, len(renders), 500):
        x = to_tensor(np.asarray(renders[i : i + 500]), device).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(
                (model.encode(x).latent_dist.mean * model.config.scaling_factor).half().cpu()
            )
    latents = torch.cat(parts)
    torch.save(latents, cache)
    return latents


def reconstruction_loss(decoded: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Pixels and edges."""
    loss = nn.functional.l1_loss(decoded, x) + 2 * nn.functional.mse_loss(decoded, x)
    return loss + 0.5 * nn.functional.l1_loss(edges(decoded), edges(x))


class Features(nn.Module):
    """What the shipped CLIP sees at each place of a picture, square by square.

    Compared beside pixels, so that a decoder keeps what a thing is told by. The judge has no part
    in this: it stays independent of what it judges.
    """

    def __init__(self) -> None:
        super().__init__()
        clip = CLIPModel.from_pretrained(WORLD / "clip").float()
        processor = CLIPImageProcessorPil.from_pretrained(WORLD / "clip")
        self.tower, self.edge = clip.vision_model, clip.config.vision_config.image_size
        for name in ("mean", "std"):
            values = torch.tensor(getattr(processor, f"image_{name}"))
            self.register_buffer(name, values.view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures in [-1, 1], as high as CLIP's, to unit rows (square, picture, place, width)."""
        squares = torch.stack(pictures.split(self.edge, -1)).flatten(0, 1)
        states = self.tower(
            pixel_values=(squares / 2 + 0.5 - self.mean) / self.std, output_hidden_states=True
        )
        found = nn.functional.normalize(states.hidden_states[-2].float(), dim=-1)
        return found.unflatten(0, (-1, len(pictures)))


def refine(config: dict[str, Any], out: Path, device: torch.device) -> None:
    """Trains the decoder on with the encoder frozen, on the latents the denoiser learned from.

    The latents get a little noise, because generated ones are never exact. With ``features``, what
    CLIP sees is compared as well, with that weight. With ``start``, it is that model's decoder.
    """
    torch.manual_seed(config["seed"])
    model = AutoencoderKL.from_pretrained(start_of(config, out) / "vae").float()
    model = model.to(device, memory_format=torch.channels_last)
    for part in (model.encoder, model.quant_conv):
        part.requires_grad_(False)
    features = Features().to(device) if config.get("features") else None
    kinds = [kind for kind in ("", "-wide") if (out / f"renders{kind}.npy").exists()]
    groups = [
        (
            np.load(out / f"renders{kind}.npy", mmap_mode="r"),
            latents_of(config, out, device, kind=kind),
        )
        for kind in kinds
    ]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config["lr"], weight_decay=1e-4)
    loop = Loop("decoder", config, {"model": model, "optimiser": optimiser}, out / "decoder.pt")
    rng = np.random.default_rng(loop.seed)
    for step in loop.steps():
        renders, latents = groups[step % len(groups)]
        pick = np.sort(rng.integers(0, len(renders), config["batch"]))
        x = to_tensor(np.array(renders[pick]), device)
        z = latents[torch.from_numpy(pick)].to(device).float()
        z = (z + config["noise"] * torch.randn_like(z)) / model.config.scaling_factor
        with torch.autocast(device.type, torch.bfloat16):
            decoded = model.decode(z.contiguous(memory_format=torch.channels_last)).sample
            seen = features(torch.cat([decoded, x])) if features else None
        loss = reconstruction_loss(decoded.float(), x)
        if seen is not None:
            made, true = seen.chunk(2, dim=1)
            loss = loss + config["features"] * (1 - (made * true).sum(-1)).mean()
        loop.descend(loss, model)
    model.eval().save_pretrained(out / "vae")


@torch.no_grad()
def finish(model: AutoencoderKL, data: np.ndarray, out: Path, device: torch.device) -> None:
    """Measures the latents' spread and the reconstruction, then saves the model."""
    model.eval()
    x = to_tensor(data[:2000], device)
    means = torch.cat([model.encode(part).latent_dist.mean for part in x.split(250)])
    decoded = torch.cat([model.decode(part).sample for part in means[:500].split(250)])
    error = nn.functional.mse_loss(decoded, x[:500]).item() / 4
    model.register_to_config(scaling_factor=1 / means.std().item())
    print(
        f"vae scaling {model.config.scaling_factor:.4f} PSNR {-10 * math.log10(error):.2f} dB",
        flush=True,
    )
    model.save_pretrained(out / "vae")
