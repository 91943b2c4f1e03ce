"""Rules as guiders of modular pipelines equal the same rules attached to standard pipelines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.guider import guider
from tadasu.errors import BadInput, RunFailed

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
SIZE: dict[str, Any] = {"height": 16, "width": 16, "num_inference_steps": 4}


def encoded(pipe: Any, text: str) -> dict[str, torch.Tensor]:
    context, _, pooled, _ = pipe.encode_prompt(
        text, device="cpu", do_classifier_free_guidance=False
    )
    return {"prompt_embeds": context, "text_embeds": pooled}


@pytest.fixture(scope="module")
def modular(sdxl: Any) -> Any:
    from diffusers.modular_pipelines.stable_diffusion_xl import StableDiffusionXLAutoBlocks

    blocks = StableDiffusionXLAutoBlocks()
    pipe = blocks.init_pipeline()
    names = {component.name for component in blocks.expected_components}
    parts = {n: p for n, p in sdxl.components.items() if n in names and p is not None}
    pipe.update_components(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("rule", "concepts"), [("sld:max", ["a pistol"]), ("crg", ["a pistol", "a bomb"])]
)
def test_a_guider_equals_the_attached_rule_and_starts_anew(
    sdxl: Any, modular: Any, rule: str, concepts: list[str]
) -> None:
    steer = guider(
        rule,
        [encoded(sdxl, text) for text in concepts],
        scheduler=modular.scheduler,
        guidance_scale=5.0,
    )
    modular.update_components(guider=steer)
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    call: dict[str, Any] = {"prompt": ["a cat", "dogs"], "latents": start, **SIZE}
    with attach(sdxl, rule, concepts):
        (expected,) = sdxl(**call, guidance_scale=5.0, output_type="latent", return_dict=False)
    for _ in range(2):
        found = modular(**call, output="latents", output_type="latent")
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * expected.abs().max())
    (plain,) = sdxl(**call, guidance_scale=5.0, output_type="latent", return_dict=False)
    assert (plain - expected).abs().max() > 1e-2 * expected.abs().max()
    assert not modular.unet._forward_pre_hooks


def test_blocks_that_pass_names_of_fields_get_the_same_batches(sdxl: Any) -> None:
    concept = torch.full((1, 3, 2), 7.0)
    steer = guider("sld", [{"encoder_hidden_states": concept}], scheduler=sdxl.scheduler)
    steer.set_state(0, 4, torch.tensor(999))
    state = SimpleNamespace(prompt=torch.ones(2, 3, 2), negative=torch.zeros(2, 3, 2))
    batches = steer.prepare_inputs_from_block_state(
        state, {"encoder_hidden_states": ("prompt", "negative")}
    )
    by_value = steer.prepare_inputs({"encoder_hidden_states": (state.prompt, state.negative)})
    for batch, other in zip(batches, by_value, strict=True):
        assert torch.equal(batch.encoder_hidden_states, other.encoder_hidden_states)
    values = [float(batch.encoder_hidden_states.mean()) for batch in batches]
    assert values == [1.0, 0.0, 7.0]
    assert batches[2].encoder_hidden_states.shape == (2, 3, 2)
    assert steer.num_conditions == 3


def test_latents_that_were_never_seen_stop_the_run(sdxl: Any) -> None:
    steer = guider("sld", [encoded(sdxl, "a pistol")], scheduler=sdxl.scheduler)
    steer.set_state(0, 4, torch.tensor(999))
    blank = torch.zeros(1, 4, 8, 8)
    with pytest.raises(RunFailed, match="never saw"):
        steer.forward(pred_cond=blank, pred_uncond=blank, pred_concept_0=blank)


@pytest.mark.parametrize(
    ("rule", "count", "settings", "message"),
    [
        ("sld", 2, {}, "one text for all concepts"),
        ("crg", 0, {}, "at least one concept"),
        ("apg", 1, {}, "takes no concepts' predictions"),
        ("crg", 2, {"strength": [1.0]}, "1 strengths were given for 2"),
        ("crg", 1, {"guidance_scale": 1.0}, "above 1"),
    ],
)
def test_what_a_guider_refuses(
    sdxl: Any, rule: str, count: int, settings: dict[str, Any], message: str
) -> None:
    concepts = [{"prompt_embeds": torch.zeros(1, 3, 2)}] * count
    with pytest.raises(BadInput, match=message):
        guider(rule, concepts, scheduler=sdxl.scheduler, **settings)
