"""A trained denoiser that predicts velocity steers as the one that predicts noise does.

The bundled model predicts noise. Its prediction is rewritten as the velocity (Salimans and Ho 2022,
appendix D), so both parameterisations hold the same trained function and must draw the same
pictures.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from tadasu import world
from tadasu.backends.diffusers.attach import attach

RULES = (
    "negative_prompt", "sld:strong", "sega:strong", "negated_cfg", "perp_neg", "ccfg", "dng", "crg",
    "safree", "presence", "apg",
)  # fmt: skip


class Velocity(UNet2DConditionModel):  # type: ignore[misc]
    """The same network, its answer as velocity."""

    alphas: torch.Tensor

    def forward(
        self, sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **rest: Any
    ) -> Any:
        rest["return_dict"] = True
        noise = super().forward(sample, timestep, encoder_hidden_states, **rest).sample
        share = self.alphas[int(torch.as_tensor(timestep).flatten()[0])]
        velocity = (noise - (1 - share).sqrt() * sample) / share.sqrt()
        return UNet2DConditionOutput(sample=velocity) if rest["return_dict"] else (velocity,)


@pytest.fixture(scope="module")
def pipes() -> tuple[Any, Any]:
    noise = world.pipeline("cpu")
    velocity = copy.deepcopy(noise)
    velocity.scheduler = DDIMScheduler.from_config(
        noise.scheduler.config, prediction_type="v_prediction"
    )
    velocity.unet.__class__ = Velocity
    velocity.unet.alphas = noise.scheduler.alphas_cumprod
    velocity.set_progress_bar_config(disable=True)
    return noise, velocity


def drawn(pipe: Any, rule: str | None, concepts: list[str]) -> np.ndarray:
    def draw() -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        made: np.ndarray = pipe(
            "a pistol", num_inference_steps=6, generator=generator, output_type="np"
        ).images
        return made

    if rule is None:
        return draw()
    with attach(pipe, rule, concepts):
        return draw()


@pytest.mark.parametrize("rule", RULES)
def test_velocity_and_noise_draw_the_same(pipes: tuple[Any, Any], rule: str) -> None:
    concepts = [] if rule == "apg" else ["pistol", "gun"]
    noise, velocity = (drawn(pipe, rule, concepts) for pipe in pipes)
    mismatch = np.abs(noise - velocity).max()
    effect = np.abs(velocity - drawn(pipes[1], None, [])).max()
    assert mismatch < min(0.01, effect / 5)
