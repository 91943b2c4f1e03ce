"""Rules as guiders of modular pipelines equal the same rules attached to standard pipelines."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.families import family_of
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


#: Family: its blocks, the guider's scale, whether latents are tokens, and the concept's fields.
MODULAR: dict[str, tuple[str, float, bool, tuple[str, ...]]] = {
    "sd3": ("StableDiffusion3AutoBlocks", 5.0, False, ("encoder_hidden_states", "text_embeds")),
    "qwen-image": (
        "QwenImageAutoBlocks",
        4.0,
        True,
        ("encoder_hidden_states", "encoder_hidden_states_mask"),
    ),
    "z-image": ("ZImageAutoBlocks", 5.0, False, ("cap_feats",)),
    "flux2 klein": ("Flux2KleinBaseAutoBlocks", 4.0, True, ("encoder_hidden_states",)),
}
Built = Callable[[str], tuple[Any, dict[str, Any]]]


class Modular:
    """A modular pipeline around a family's tiny parts, beside the standard one."""

    def __init__(self, name: str, built: Built) -> None:
        import diffusers

        blocks, self.scale, self.tokens, self.fields = MODULAR[name]
        self.standard, settings = built(name)
        made = getattr(diffusers, blocks)()
        expected = {component.name for component in made.expected_components}
        known = {given.name for given in made.inputs}
        parts = self.standard.components
        self.pipe = made.init_pipeline()
        self.pipe.update_components(
            **{n: part for n, part in parts.items() if n in expected and part is not None}
        )
        self.pipe.set_progress_bar_config(disable=True)
        self.call = {key: value for key, value in settings.items() if key in known}
        self.settings = settings | ({"negative_prompt": ""} if name == "qwen-image" else {})
        with torch.no_grad():
            found = family_of(self.standard).encode(self.standard, "pistol", settings)
        self.concept = dict(zip(self.fields, found.values(), strict=True))

    def steer(self, rule: str, strength: float = 1.0) -> Any:
        """Give the modular pipeline a guider with this rule."""
        settings: dict[str, Any] = {
            "guidance_scale": self.scale,
            "strength": strength,
            "tokens": self.tokens,
        }
        made = guider(rule, [self.concept], scheduler=self.pipe.scheduler, **settings)
        self.pipe.update_components(guider=made)
        return made

    def run(self) -> torch.Tensor:
        return last_latents(
            self.pipe.scheduler, lambda: self.pipe(**SHORT, generator=seed(), **self.call)
        )

    def run_standard(self) -> torch.Tensor:
        pipe = self.standard
        return last_latents(
            pipe.scheduler,
            lambda: pipe(**SHORT, generator=seed(), output_type="latent", **self.settings),
        )


SHORT: dict[str, Any] = {"prompt": "a cat", "num_inference_steps": 3}


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def last_latents(scheduler: Any, run: Callable[[], Any]) -> torch.Tensor:
    """What the scheduler's last step gave; families pack their results in different ways."""
    seen: list[torch.Tensor] = []
    step = scheduler.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        found = step(*args, **kwargs)
        seen.append(found[0].float())
        return found

    scheduler.step = watched
    try:
        run()
    finally:
        del scheduler.step
    return seen[-1]


@pytest.fixture(scope="module")
def modular_of(built: Built) -> Callable[[str], Modular]:
    """The function that gives a family's modular pipeline, built once."""
    made: dict[str, Modular] = {}

    def found(name: str) -> Modular:
        if name not in made:
            made[name] = Modular(name, built)
        return made[name]

    return found


# SD3's modular blocks encode the prompt without T5 in another way than its standard pipeline.
@pytest.mark.parametrize("name", [name for name in MODULAR if name != "sd3"])
@pytest.mark.parametrize("rule", ["sld:max", "negated_cfg"])
def test_end_to_end_a_guider_equals_the_attached_rule(
    modular_of: Callable[[str], Modular], name: str, rule: str
) -> None:
    pair = modular_of(name)
    with attach(pair.standard, rule, ["pistol"]):
        expected = pair.run_standard()
    steer = pair.steer(rule)
    for _ in range(2):  # the second run starts anew
        torch.testing.assert_close(pair.run(), expected, rtol=1e-3, atol=1e-3)
    assert steer.concept_rows == (1, 1, 1)
    assert (expected - pair.run_standard()).abs().max() > 3e-3


@pytest.mark.parametrize("name", MODULAR)
def test_strength_zero_is_the_modular_pipelines_own_guidance(
    modular_of: Callable[[str], Modular], name: str
) -> None:
    from diffusers.guiders import ClassifierFreeGuidance

    pair = modular_of(name)
    steer = pair.steer("sld:max", strength=0.0)
    ours = pair.run()
    assert steer.concept_rows == (0, 0, 0)
    pair.pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=pair.scale))
    plain = pair.run()
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    steer = pair.steer("sld:max")
    steered = pair.run()
    assert (steered - plain).abs().max() > 1e-3
    assert steer.concept_rows == (1, 1, 1)
    assert torch.equal(pair.run(), steered)


def test_a_concept_runs_only_at_the_steps_that_want_it(
    modular_of: Callable[[str], Modular],
) -> None:
    """The momentum of SLD starts at 0 and its weak setting has none: a warm-up needs no row."""
    pair = modular_of("qwen-image")
    calls: list[int] = []
    handle = pair.pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        steer = pair.steer("sld:weak,warmup=0.5")
        pair.run()
        rare = pair.steer("presence:share=0")
        pair.run()
    finally:
        handle.remove()
    assert steer.concept_rows == (0, 0, 1)
    assert rare.concept_rows == (1, 0, 0)
    assert len(calls) == 2 * (2 * 3) + 1 + 1


def test_predictions_that_are_not_finite_stop_the_modular_run(
    modular_of: Callable[[str], Modular],
) -> None:
    pair = modular_of("qwen-image")
    pair.steer("sld:max")
    handle = pair.pipe.transformer.register_forward_hook(
        lambda module, given, output: (output[0] * torch.nan,)
    )
    try:
        with pytest.raises(RunFailed, match="sld, step 1 of 3"):
            pair.run()
    finally:
        handle.remove()
    assert not pair.pipe.transformer._forward_pre_hooks


def test_blocks_that_pass_names_of_fields_get_the_same_batches(sdxl: Any) -> None:
    concept = torch.full((1, 3, 2), 7.0)
    steer = guider("sld", [{"encoder_hidden_states": concept}], scheduler=sdxl.scheduler)
    steer.set_state(0, 4, torch.tensor(999))
    state = SimpleNamespace(prompt=torch.ones(2, 3, 2), negative=torch.zeros(2, 3, 2))
    fields = {"encoder_hidden_states": ("prompt", "negative")}
    pairs = {"encoder_hidden_states": (state.prompt, state.negative)}
    ways = (
        steer.prepare_inputs_from_block_state(state, fields),
        steer.prepare_inputs(pairs),
    )
    for way in ways:
        values = []
        for batch in way:  # the denoiser runs between one batch and the next
            steer._core.latents = torch.zeros(2, 4, 8, 8)
            values.append(float(batch.encoder_hidden_states.mean()))
        assert values == [1.0, 0.0, 7.0]
        assert len(way) == steer.num_conditions == 3
        assert way[2].encoder_hidden_states.shape == (2, 3, 2)
        assert [batch.encoder_hidden_states.mean() for batch in way] == values


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
        ("crg", 1, {"strength": -1.0}, "from 0 on"),
        ("crg", 1, {"strength": float("nan")}, "finite"),
    ],
)
def test_what_a_guider_refuses(
    sdxl: Any, rule: str, count: int, settings: dict[str, Any], message: str
) -> None:
    concepts = [{"prompt_embeds": torch.zeros(1, 3, 2)}] * count
    with pytest.raises(BadInput, match=message):
        guider(rule, concepts, scheduler=sdxl.scheduler, **settings)
