"""What cannot work says so, names what to change, and leaves the pipeline as it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.errors import BadInput, RunFailed, TadasuError, UnknownName

Latents = Callable[..., torch.Tensor]


def parts_of(pipe: Any) -> tuple[Any, ...]:
    """Everything that attaching touches."""
    return (
        type(pipe),
        set(vars(pipe.unet)),
        {name: id(part) for name, part in pipe.components.items()},
        {name: len(module._forward_hooks) for name, module in pipe.unet.named_modules()},
    )


#: Case: rule, concepts, strength, arguments of the call, error, and what its message says.
CASES: dict[str, tuple[str, list[Any], Any, dict[str, Any], type[TadasuError], str]] = {
    "no guidance": ("sld", ["a"], 1.0, {"guidance_scale": 1.0}, BadInput, "guidance scale above 1"),
    "no guidance, adaptive": ("presence", ["a"], 1.0, {"guidance_scale": 1.0}, BadInput, "nag"),
    "unknown rule": ("slld", ["a"], 1.0, {}, UnknownName, "Did you mean sld"),
    "unknown parameter": ("sld:warm=1", ["a"], 1.0, {}, UnknownName, "warmup"),
    "no concept": ("presence", [], 1.0, {}, BadInput, "at least one concept"),
    "not a concept": ("sld", [{"id": "pistol"}], 1.0, {}, BadInput, "neither a concept nor a text"),
    "empty concept": ("sld", [" "], 1.0, {}, BadInput, "empty concept"),
    "too few strengths": ("crg", ["a", "b"], [1.0], {}, BadInput, "1 strengths were given for 2"),
    "too many strengths": ("crg", ["a"], [1.0, 1.0], {}, BadInput, "2 strengths were given for 1"),
    "strength not a number": ("sld", ["a"], float("nan"), {}, BadInput, "finite number"),
    "negative strength": ("sld", ["a"], -0.5, {}, BadInput, "from 0 on"),
    "lists for another number of prompts": ("sld", [["a"], ["b"]], 1.0, {}, BadInput, "2 prompts"),
    "too long": ("sld", ["weapon"] * 20, 1.0, {}, BadInput, "reads only the first"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_leaves_the_pipeline_as_found(sd: Any, latents_of: Latents, case: str) -> None:
    rule, concepts, strength, call, error, message = CASES[case]
    before = parts_of(sd)
    with pytest.raises(error, match=message), attach(sd, rule, concepts, strength=strength):
        latents_of(sd, steps=1, **call)
    assert parts_of(sd) == before


def broken(pipe: Any, at: int) -> Callable[..., Any]:
    """The denoiser's forward, whose answer is not finite at one call."""
    calls: list[int] = []
    forward = type(pipe.unet).forward

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        output = forward(self, *args, **kwargs)
        return (output[0] * (torch.nan if len(calls) == at else 1),)

    found: Callable[..., Any] = wrong.__get__(pipe.unet)
    return found


@pytest.mark.parametrize("rule", ["sld", "sega", "presence", "dng", "negative_prompt", "safree"])
def test_predictions_that_are_not_finite_name_step_and_rule(
    sd: Any, latents_of: Latents, rule: str
) -> None:
    before, plain = parts_of(sd), latents_of(sd, steps=3)
    sd.unet.forward = broken(sd, at=2)
    try:
        with attach(sd, rule, ["a pistol"]), pytest.raises(RunFailed) as caught:
            latents_of(sd, steps=3)
    finally:
        del sd.unet.forward
    for part in (rule, "step 2 of 3", "denoiser", "not finite"):
        assert part in str(caught.value)
    assert parts_of(sd) == before
    assert torch.equal(latents_of(sd, steps=3), plain)


# diffusers' Heun copies NumPy arrays in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_scheduler_without_the_variance_of_dng_is_refused(
    sd: Any, like: Callable[..., Any], latents_of: Latents
) -> None:
    """Heun's second look at a step is at the noise level of the first."""
    from diffusers import HeunDiscreteScheduler

    heun = like(sd, scheduler=HeunDiscreteScheduler.from_config(sd.scheduler.config))
    before, plain = parts_of(heun), latents_of(heun, steps=3)
    with attach(heun, "dng", ["a pistol"]), pytest.raises(BadInput, match="DDIM or Euler"):
        latents_of(heun, steps=3)
    assert parts_of(heun) == before
    assert torch.equal(latents_of(heun, steps=3), plain)


def test_not_finite_without_guidance_names_step_and_rule(sd: Any, latents_of: Latents) -> None:
    sd.unet.forward = broken(sd, at=2)
    try:
        with attach(sd, "nag", ["a pistol"]), pytest.raises(RunFailed, match="nag, step 2 of 3"):
            latents_of(sd, steps=3, guidance_scale=1.0)
    finally:
        del sd.unet.forward


def test_a_scheduler_that_states_no_noise_level_is_refused(
    sd: Any, like: Callable[..., Any], latents_of: Latents
) -> None:
    plain = latents_of(sd, steps=2)
    kept = sd.scheduler.alphas_cumprod

    def forget(pipe: Any, *_: Any) -> dict[str, Any]:
        del pipe.scheduler.alphas_cumprod
        return {}

    with attach(sd, "sld", ["a pistol"]), pytest.raises(BadInput, match="noise level"):
        latents_of(sd, steps=2, callback_on_step_end=forget)
    sd.scheduler.alphas_cumprod = kept
    assert torch.equal(latents_of(sd, steps=2), plain)
