"""Pictures to latents and back as the denoiser knows them, in the precision that the VAE needs.

SDXL's VAE overflows in float16 and says so (``force_upcast``); gradients through any VAE vanish in
it. There it runs with float32 copies of its weights; the VAE itself is left as it is. Latents are
scaled by ``scaling_factor`` and ``shift_factor``, and by ``latents_mean`` and ``latents_std`` where
a VAE has them.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call


def encoded(
    vae: Any, pictures: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch channel rows columns"]:
    """The mean of what the VAE makes of pictures in [-1, 1], scaled for the denoiser, float32."""
    wide = vae.dtype == torch.float16 and _upcast(vae)
    mean = _call(vae, "encode", pictures, wide).latent_dist.mean.float()
    middle, spread = _statistics(vae, mean)
    found: Tensor = (mean - middle) * (vae.config.scaling_factor / spread)
    return found


def decoded(
    vae: Any, latents: Float[Tensor, "batch channel rows columns"]
) -> Float[Tensor, "batch 3 height width"]:
    """Clean latents as pictures in [0, 1], float32, differentiable."""
    middle, spread = _statistics(vae, latents)
    own = latents * (spread / vae.config.scaling_factor) + middle
    wide = vae.dtype == torch.float16 and (_upcast(vae) or latents.requires_grad)
    pictures: Tensor = _call(vae, "decode", own, wide).sample.float()
    return (pictures / 2 + 0.5).clamp(0, 1)


def _upcast(vae: Any) -> bool:
    return bool(getattr(vae.config, "force_upcast", False))


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """What is taken off latents, and what they are divided by, beside the scaling factor."""
    middle = getattr(vae.config, "latents_mean", None)
    spread = getattr(vae.config, "latents_std", None)
    if middle is None or spread is None:
        return float(getattr(vae.config, "shift_factor", None) or 0.0), 1.0
    shape = 1, -1, *(1,) * (like.ndim - 2)
    return (
        torch.tensor(middle, dtype=torch.float32).reshape(shape).to(like.device),
        torch.tensor(spread, dtype=torch.float32).reshape(shape).to(like.device),
    )


def _call(vae: Any, way: str, given: Tensor, wide: bool) -> Any:
    """One forward of encoder or decoder, with float32 copies of the weights if ``wide``."""
    if not wide:
        place = next(vae.parameters())
        return getattr(vae, way)(given.to(place.device, place.dtype))
    own = {
        f"vae.{name}": value.to(given.device, torch.float32 if value.is_floating_point() else None)
        for name, value in vae.state_dict().items()
    }
    return functional_call(_Way(vae, way), own, (given.float(),))


class _Way(nn.Module):
    """One of a VAE's two ways as a module's forward."""

    def __init__(self, vae: Any, way: str) -> None:
        super().__init__()
        self.vae, self.way = vae, way

    def forward(self, given: Tensor) -> Any:
        return getattr(self.vae, self.way)(given)
