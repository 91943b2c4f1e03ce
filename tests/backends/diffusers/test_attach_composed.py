"""A mitigation, another one and a quality rule at once: one forward, one defined order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.errors import BadInput
from tadasu.guidance.detector import DetectorGuidance

Latents = Callable[..., torch.Tensor]


def test_quality_rules_run_last_whatever_the_order_of_attachment(
    sd: Any, latents_of: Latents
) -> None:
    with attach(sd, "sld:max", ["a pistol"]), attach(sd, "apg"):
        first = latents_of(sd)
    with attach(sd, "apg"), attach(sd, "sld:max", ["a pistol"]):
        second = latents_of(sd)
    with attach(sd, "sld:max", ["a pistol"]):
        without = latents_of(sd)
    assert torch.equal(first, second)
    assert not torch.allclose(first, without, atol=1e-2)


def test_mitigations_run_in_the_order_of_attachment(sd: Any, latents_of: Latents) -> None:
    with attach(sd, "sld:max", ["a pistol"]), attach(sd, "perp_neg", ["a bomb"]):
        first = latents_of(sd)
    with attach(sd, "perp_neg", ["a bomb"]), attach(sd, "sld:max", ["a pistol"]):
        second = latents_of(sd)
    assert not torch.allclose(first, second, atol=1e-3)


def test_rescale_equals_the_pipelines_own(sd: Any, latents_of: Latents) -> None:
    own = latents_of(sd, guidance_rescale=0.7)
    with attach(sd, "rescale:amount=0.7") as attached:
        ours = latents_of(sd)
    torch.testing.assert_close(ours, own, rtol=1e-3, atol=1e-3)
    assert attached.record is not None
    assert set(attached.record.rows) == {2}


def test_a_replaced_negative_prompt_still_costs_nothing_beside_a_quality_rule(
    sd: Any, latents_of: Latents
) -> None:
    own = latents_of(sd, negative_prompt="a pistol", guidance_rescale=1.0)
    with (
        attach(sd, "negative_prompt", ["a pistol"]) as attached,
        attach(sd, "rescale:amount=1"),
    ):
        ours = latents_of(sd)
    torch.testing.assert_close(ours, own, rtol=1e-3, atol=1e-3)
    assert attached.record is not None
    assert set(attached.record.rows) == {2}


def test_guidance_beside_an_edit_of_the_weights(sd: Any, latents_of: Latents) -> None:
    """An edit changes what every row means; guidance comes after it and detaches from it."""
    weight = next(w for name, w in sd.unet.named_parameters() if "attn2.to_v.weight" in name)
    kept = weight.detach().clone()
    plain = latents_of(sd)
    try:
        with torch.no_grad():
            weight.mul_(0.5)
        edited = latents_of(sd)
        with attach(sd, "sld:max", ["a pistol"]), attach(sd, "rescale"):
            both = latents_of(sd)
        assert torch.equal(latents_of(sd), edited)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert not torch.allclose(both, edited, atol=1e-3)
    assert torch.equal(latents_of(sd), plain)


def test_a_quality_rule_has_no_strength_and_no_concepts(sd: Any) -> None:
    with pytest.raises(BadInput, match="no strength"), attach(sd, "apg", strength=0.5):
        pass
    with pytest.raises(BadInput, match="takes no concepts"), attach(sd, "apg", ["a pistol"]):
        pass


def test_a_detector_lowers_its_own_score(sd: Any, latents_of: Latents) -> None:
    """The detector dislikes bright pictures."""

    def bright(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=(1, 2, 3))

    def brightness(latents: torch.Tensor) -> float:
        with torch.no_grad():
            decoded = sd.vae.decode(latents / sd.vae.config.scaling_factor).sample
        return float((decoded / 2 + 0.5).clamp(0, 1).mean())

    plain = latents_of(sd)
    with attach(sd, DetectorGuidance(score=bright, scale=20.0)) as attached:
        corrected = latents_of(sd)
    assert brightness(corrected) < brightness(plain)
    assert attached.record is not None
    assert attached.record.parameters["score"] == "bright"
    with pytest.raises(BadInput, match="needs a detector"), attach(sd, "detector"):
        pass
    assert torch.equal(latents_of(sd), plain)
