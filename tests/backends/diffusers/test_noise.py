"""Noise levels and prediction types: the same ε whatever the model predicts."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch

from tadasu.backends.diffusers.noise import level
from tadasu.errors import BadInput

# diffusers converts its tables in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def ready(name: str, **settings: Any) -> Any:
    scheduler = getattr(diffusers, name)(**settings)
    scheduler.set_timesteps(10)
    return scheduler


NAMES = (
    "DDIMScheduler DDPMScheduler PNDMScheduler EulerDiscreteScheduler UniPCMultistepScheduler "
    "DPMSolverMultistepScheduler EulerAncestralDiscreteScheduler HeunDiscreteScheduler"
).split()


#: These do not take models that predict the sample itself.
NO_SAMPLE = ("PNDMScheduler", "EulerAncestralDiscreteScheduler")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in NAMES
        for kind in ("epsilon", "v_prediction", "sample")
        if kind != "sample" or name not in NO_SAMPLE
    ],
)
def test_prediction_types_agree_with_the_noise_that_was_added(name: str, kind: str) -> None:
    """x_t is made by the scheduler itself, so its level must be the one that we read off."""
    scheduler = ready(name, prediction_type=kind)
    clean, noise = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    index = 5
    timestep = scheduler.timesteps[index]
    noisy = scheduler.add_noise(clean, noise, timestep[None])
    noisy = scheduler.scale_model_input(noisy, timestep)
    at = level(scheduler, index, float(timestep))
    torch.testing.assert_close(noisy, at.signal * clean + at.noise * noise, rtol=2e-3, atol=2e-3)
    outputs = {
        "epsilon": noise,
        "v_prediction": at.signal * noise - at.noise * clean,
        "sample": clean,
    }
    torch.testing.assert_close(at.to_noise(outputs[kind], noisy), noise, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_flow_models_predict_noise_minus_image(sign: float) -> None:
    scheduler = ready("FlowMatchEulerDiscreteScheduler", shift=3.0)
    clean, noise = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    noisy = scheduler.scale_noise(clean, scheduler.timesteps[4:5], noise)
    scheduler.set_begin_index(0)
    at = level(scheduler, 4, float(scheduler.timesteps[4]), sign)
    torch.testing.assert_close(noisy, at.signal * clean + at.noise * noise)
    torch.testing.assert_close(at.to_noise(sign * (noise - clean), noisy), noise)
    torch.testing.assert_close(at.to_output(at.gain * noise), noise)


def test_pure_noise_does_not_divide_by_zero() -> None:
    scheduler = ready("FlowMatchEulerDiscreteScheduler")
    at = level(scheduler, 0, 1000.0)
    assert at.noise == 1.0
    assert math.isfinite(float(at.to_output(torch.tensor([[[1.0]]]))))


def test_a_scheduler_without_levels_is_refused() -> None:
    class Unknown:
        """Neither sigmas nor alphas_cumprod."""

    with pytest.raises(BadInput, match="Unknown has neither sigmas nor alphas_cumprod"):
        level(Unknown(), 0, 0.0)


def test_an_unknown_prediction_type_is_refused() -> None:
    scheduler = ready("DDIMScheduler")
    scheduler.register_to_config(prediction_type="score")
    with pytest.raises(BadInput, match="'score'"):
        level(scheduler, 0, 500.0)
