"""SLD, SEGA and negative prompting equal diffusers' own pipelines on the same seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.guidance.sega import SemanticGuidance
from tadasu.guidance.sld import SafeLatentDiffusion

CONCEPT = "a pistol, a bomb"
STEPS = (4, 13, pytest.param(50, marks=pytest.mark.slow))
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def last_latents(pipe: Any, prompt: Any, steps: int, **settings: Any) -> torch.Tensor:
    """The latents after the last step, from the callback that all of these pipelines have."""
    seen: list[torch.Tensor] = []
    pipe(
        prompt,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(7),
        guidance_scale=7.5,
        output_type="np",
        callback=lambda index, timestep, latents: seen.append(latents),
        callback_steps=1,
        **settings,
    )
    return seen[-1]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("preset", sorted(SafeLatentDiffusion.presets))
def test_sld_equals_the_deprecated_pipeline(
    sd: Any, like: Callable[..., Any], preset: str, steps: int
) -> None:
    rule = SafeLatentDiffusion.preset(preset)
    reference = like(sd, "StableDiffusionPipelineSafe")
    reference.safety_concept = CONCEPT
    prompt = ["a cat", "a dog on a table"]
    expected = last_latents(
        reference,
        prompt,
        steps,
        num_images_per_prompt=2,
        sld_guidance_scale=rule.scale,
        sld_warmup_steps=int(rule.warmup * steps + 0.5),
        sld_threshold=rule.threshold,
        sld_momentum_scale=rule.momentum,
        sld_mom_beta=rule.decay,
    )
    with attach(sd, rule, [CONCEPT]):
        guided = last_latents(sd, prompt, steps, num_images_per_prompt=2)
    plain = last_latents(sd, prompt, steps, num_images_per_prompt=2)
    assert (expected - plain).abs().max() > 0.05
    torch.testing.assert_close(guided, expected, rtol=2e-3, atol=2e-3)


def test_sld_presets_are_those_of_diffusers() -> None:
    from diffusers.pipelines.deprecated.stable_diffusion_safe import SafetyConfig

    names = {"weak_diffusers": "WEAK", "medium": "MEDIUM", "strong": "STRONG", "max": "MAX"}
    for ours, theirs in names.items():
        config, rule = getattr(SafetyConfig, theirs), SafeLatentDiffusion.preset(ours)
        assert round(rule.warmup * 50) == config["sld_warmup_steps"]
        assert rule.scale == config["sld_guidance_scale"]
        assert rule.threshold == config["sld_threshold"]
        assert rule.momentum == config["sld_momentum_scale"]
        assert rule.decay == config["sld_mom_beta"]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("preset", sorted(SemanticGuidance.presets))
def test_sega_equals_the_deprecated_pipeline(
    sd: Any, like: Callable[..., Any], preset: str, steps: int
) -> None:
    rule = SemanticGuidance.preset(preset)
    expected = sega_reference(sd, like, rule, [CONCEPT], steps)
    with attach(sd, rule, [CONCEPT]):
        guided = last_latents(sd, "a cat", steps)
    assert (expected - last_latents(sd, "a cat", steps)).abs().max() > 0.05
    torch.testing.assert_close(guided, expected, rtol=2e-3, atol=2e-3)


def test_sega_with_several_concepts_weights_and_cooldown_equals_it_too(
    sd: Any, like: Callable[..., Any]
) -> None:
    concepts = ["a pistol", "a bomb", "a cigar"]
    rule = SemanticGuidance(joined=False, cooldown=0.6, reverse=False, threshold=0.5)
    weights = [1.0, 0.5, 2.0]
    expected = sega_reference(sd, like, rule, concepts, 10, weights)
    with attach(sd, rule, concepts, strength=weights) as attached:
        guided = last_latents(sd, "a cat", 10)
    torch.testing.assert_close(guided, expected, rtol=2e-3, atol=2e-3)
    assert attached.record is not None
    assert attached.record.concept_rows == (3,) * 6 + (0,) * 4


def sega_reference(
    sd: Any,
    like: Callable[..., Any],
    rule: SemanticGuidance,
    concepts: list[str],
    steps: int,
    weights: list[float] | None = None,
) -> torch.Tensor:
    """Latents of diffusers' SEGA pipeline with a rule's parameters."""
    reference = like(sd, "SemanticStableDiffusionPipeline")
    cooldown = None if rule.cooldown == 1 else int(rule.cooldown * steps + 0.5)
    return last_latents(
        reference,
        "a cat",
        steps,
        editing_prompt=concepts,
        edit_guidance_scale=rule.scale,
        edit_warmup_steps=int(rule.warmup * steps + 0.5),
        edit_cooldown_steps=[cooldown] * len(concepts) if cooldown is not None else None,
        edit_threshold=rule.threshold,
        edit_momentum_scale=rule.momentum,
        edit_mom_beta=rule.decay,
        edit_weights=weights,
        reverse_editing_direction=rule.reverse,
    )


@pytest.mark.parametrize("own", [None, "blurry"])
def test_negative_prompt_equals_the_pipelines_own(
    sd: Any, latents_of: Callable[..., torch.Tensor], own: str | None
) -> None:
    joined = CONCEPT if own is None else f"{own}, {CONCEPT}"
    expected = latents_of(sd, negative_prompt=joined)
    with attach(sd, "negative_prompt", [CONCEPT]) as attached:
        guided = latents_of(sd, negative_prompt=own)
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-3)
    assert attached.record is not None
    assert set(attached.record.rows) == {2}
