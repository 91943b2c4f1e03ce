"""SAFREE on a real text encoder: only the prompt's rows change, and only while they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.errors import BadInput

Latents = Callable[..., torch.Tensor]


@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_safree_changes_the_prompt_and_costs_no_row(
    sd: Any, latents_of: Latents, scale: float
) -> None:
    prompts = ["a cat, a pistol", "dogs"]
    plain = latents_of(sd, prompts, guidance_scale=scale)
    if scale == 1.0:
        with attach(sd, "safree", ["pistol"]), pytest.raises(BadInput, match="guidance"):
            latents_of(sd, prompts, guidance_scale=scale)
        return
    with attach(sd, "safree:whole", [["pistol"], []]) as attached:
        changed = latents_of(sd, prompts, guidance_scale=scale)
    assert attached.record is not None
    assert set(attached.record.rows) == {4}
    torch.testing.assert_close(changed[1], plain[1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(changed[0], plain[0], atol=1e-2)
    with attach(sd, "safree:whole", ["pistol"], strength=0):
        assert torch.equal(latents_of(sd, prompts), plain)
    assert torch.equal(latents_of(sd, prompts), plain)


def test_self_validation_ends_the_projection_early(sd: Any, latents_of: Latents) -> None:
    inner = sd.unet.forward
    calls: list[torch.Tensor] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["encoder_hidden_states"][1])
        return inner(*args, **kwargs)

    sd.unet.forward = watched
    try:
        latents_of(sd, "a cat, a pistol", steps=1)
        own = calls.pop()
        with attach(sd, "safree", ["pistol"]) as attached:
            latents_of(sd, "a cat, a pistol", steps=10)
    finally:
        del sd.unet.forward
    assert [not torch.equal(own, used) for used in calls] == [True] * 2 + [False] * 8
    assert attached.record is not None
    assert attached.record.acted == (2,)


def test_a_prompt_that_is_hardly_changed_still_has_its_first_step(
    sd: Any, latents_of: Latents
) -> None:
    """1 of 50 steps is less than half a step of 10."""
    with attach(sd, "safree:gamma=0", ["pistol"]) as attached:
        latents_of(sd, "a cat, a pistol", steps=10)
    assert attached.record is not None
    assert attached.record.acted == (1,)


def test_safree_beside_another_rule_and_with_embeddings(sd: Any, latents_of: Latents) -> None:
    with attach(sd, "safree:whole", ["pistol"]):
        alone = latents_of(sd, "a cat, a pistol")
        with attach(sd, "sld:max", ["pistol"]):
            both = latents_of(sd, "a cat, a pistol")
    assert not torch.allclose(both, alone, atol=1e-2)
    embeddings, empty = sd.encode_prompt("a cat", "cpu", 1, True)
    with attach(sd, "safree", ["pistol"]), pytest.raises(BadInput, match="as text"):
        latents_of(sd, None, prompt_embeds=embeddings, negative_prompt_embeds=empty)
