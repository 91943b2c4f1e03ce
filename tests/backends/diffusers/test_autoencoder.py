"""Latents are scaled as the VAE's configuration says, in the precision that it needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tadasu.backends.diffusers.autoencoder import decoded, encoded


def autoencoder(**settings: Any) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **settings,
    ).eval()


def pictures() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


MEAN, SPREAD = [0.1, -0.2, 0.3, 0.0], [2.0, 0.5, 1.0, 4.0]


def test_mean_and_spread_are_those_of_the_configuration() -> None:
    vae = autoencoder(latents_mean=MEAN, latents_std=SPREAD, scaling_factor=0.5)
    with torch.no_grad():
        raw = vae.encode(pictures()).latent_dist.mean
        found = encoded(vae, pictures())
        wanted = (raw - torch.tensor(MEAN).reshape(1, 4, 1, 1)) * 0.5
        wanted = wanted / torch.tensor(SPREAD).reshape(1, 4, 1, 1)
        torch.testing.assert_close(found, wanted)
        back = (vae.decode(raw).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(decoded(vae, found), back, atol=1e-5, rtol=1e-5)


def test_a_shift_is_taken_off_and_put_back() -> None:
    vae = autoencoder(shift_factor=0.25, scaling_factor=1.5)
    with torch.no_grad():
        raw = vae.encode(pictures()).latent_dist.mean
        torch.testing.assert_close(encoded(vae, pictures()), (raw - 0.25) * 1.5)
        back = (vae.decode(raw).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(decoded(vae, (raw - 0.25) * 1.5), back, atol=1e-5, rtol=1e-5)


def test_a_vae_that_overflows_in_half_precision_runs_in_single() -> None:
    vae = autoencoder(force_upcast=True).half()
    exact = autoencoder()
    exact.load_state_dict({name: value.float() for name, value in vae.state_dict().items()})
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    with torch.no_grad():
        latents = encoded(vae, pictures())
        torch.testing.assert_close(latents, encoded(exact, pictures()))
        torch.testing.assert_close(decoded(vae, latents), decoded(exact, latents))
    assert vae.dtype == torch.float16
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_gradients_through_a_vae_in_half_precision_do_not_vanish() -> None:
    """A score's gradient by one of many values is below float16's smallest number."""
    vae = autoencoder(force_upcast=False).half()
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (found,) = torch.autograd.grad(1e-6 * decoded(vae, latents).mean(), latents)
    own = (latents / vae.config.scaling_factor).half()
    (plain,) = torch.autograd.grad(1e-6 * vae.decode(own).sample.float().mean(), latents)
    assert float((plain == 0).float().mean()) > 0.9
    assert float((found == 0).float().mean()) < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_precisions_are_left_alone(dtype: torch.dtype) -> None:
    vae = autoencoder().to(dtype)
    with torch.no_grad():
        raw = vae.encode(pictures().to(dtype)).latent_dist.mean.float()
    with torch.no_grad():
        torch.testing.assert_close(encoded(vae, pictures()), raw * vae.config.scaling_factor)
