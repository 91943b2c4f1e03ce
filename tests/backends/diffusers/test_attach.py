"""Attaching and detaching: exact inverses, rows only where they matter, clear errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.concepts import Concept
from tadasu.errors import BadInput, RunFailed, UnknownName
from tadasu.guidance.registry import names
from tadasu.guidance.sld import SafeLatentDiffusion

Latents = Callable[..., torch.Tensor]
PISTOL = Concept(
    id="pistol", names={"en": ("pistol",)}, prompts=("a pistol",), hazard="weapons", severity="high"
)


def state_of(pipe: Any) -> tuple[Any, ...]:
    """Everything that attaching touches, and the parts that it must not touch."""
    return (
        type(pipe),
        dict(vars(pipe.unet)),
        {name: id(value) for name, value in vars(pipe).items()},
        {name: id(part) for name, part in pipe.components.items()},
    )


def test_detached_pipeline_is_bit_identical(sd: Any, latents_of: Latents) -> None:
    before, plain = state_of(sd), latents_of(sd)
    with attach(sd, "sld:max", ["a pistol"]):
        during = latents_of(sd)
        assert isinstance(sd, before[0])
        assert type(sd).__name__ == "StableDiffusionPipeline"
        assert inspect.signature(sd.__call__) == inspect.signature(before[0].__call__.__get__(sd))
    assert not torch.equal(during, plain)
    assert state_of(sd)[:2] == before[:2]
    assert state_of(sd)[3] == before[3]
    assert torch.equal(latents_of(sd), plain)


def test_an_exception_inside_the_block_detaches(sd: Any, latents_of: Latents) -> None:
    before, plain = state_of(sd), latents_of(sd)

    def interrupt(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), attach(sd, "sld", ["a pistol"]):
        latents_of(sd, callback_on_step_end=interrupt)
    assert state_of(sd)[:2] == before[:2]
    assert torch.equal(latents_of(sd), plain)


def test_a_forward_that_was_already_replaced_comes_back(sd: Any, latents_of: Latents) -> None:
    original = sd.unet.forward

    def mine(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    mine.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    sd.unet.forward = mine
    try:
        with attach(sd, "sld", ["a pistol"]):
            latents_of(sd)
        assert vars(sd.unet)["forward"] is mine
    finally:
        del sd.unet.forward


@pytest.mark.parametrize("rule", ["sld:max", "sega", "negative_prompt"])
@pytest.mark.parametrize("concepts", [["a pistol"], [[], ["a pistol"]]])
def test_strength_zero_is_the_plain_pipeline_bit_for_bit(
    sd: Any, latents_of: Latents, rule: str, concepts: list[Any]
) -> None:
    prompts = ["a cat", "a dog"]
    plain = latents_of(sd, prompts)
    with attach(sd, rule, concepts, strength=0.0) as attached:
        assert torch.equal(latents_of(sd, prompts), plain)
    assert attached.record is not None
    assert set(attached.record.rows) == {4}


def test_strength_scales_the_effect(sd: Any, latents_of: Latents) -> None:
    plain = latents_of(sd, steps=3)
    moved = []
    for strength in (0.01, 0.1, 1.0):
        with attach(sd, "sld:max", ["a pistol"], strength=strength):
            moved.append(float((latents_of(sd, steps=3) - plain).abs().mean()))
    assert 0 < moved[0] < moved[1] < moved[2]
    assert moved[1] / moved[0] == pytest.approx(10, rel=0.3)


def test_images_of_a_batch_do_not_touch_each_other(sd: Any, latents_of: Latents) -> None:
    prompts = ["a cat", "a dog", "a cat"]
    concepts: list[list[Concept | str]] = [["a pistol"], [], ["a bomb", PISTOL]]
    starts = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with attach(sd, "sega:joined=false", concepts) as attached:
        together = latents_of(sd, prompts, latents=starts)
    assert attached.record is not None
    assert attached.record.concepts == (("a pistol",), (), ("a bomb", "a pistol"))
    assert set(attached.record.rows) == {9}
    for image, (prompt, own) in enumerate(zip(prompts, concepts, strict=True)):
        one = starts[image : image + 1]
        if own:
            with attach(sd, "sega:joined=false", own):
                alone = latents_of(sd, prompt, latents=one)
        else:
            alone = latents_of(sd, prompt, latents=one)
        torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-3, atol=1e-3)


def test_every_image_of_a_prompt_gets_its_concepts(sd: Any, latents_of: Latents) -> None:
    prompts, concepts = ["a cat", "a dog"], [["a pistol"], ["a bomb"]]
    with attach(sd, "sld", concepts):
        repeated = latents_of(sd, prompts, num_images_per_prompt=2)
    twice = [item for item in concepts for _ in range(2)]
    with attach(sd, "sld", twice):
        spelled_out = latents_of(sd, [item for item in prompts for _ in range(2)])
    torch.testing.assert_close(repeated, spelled_out)


def test_no_row_is_computed_in_a_warm_up_without_momentum(sd: Any, latents_of: Latents) -> None:
    with attach(sd, "sld:weak", ["a pistol"]) as attached:
        assert attached.record is None
        latents_of(sd, steps=10)
    record = attached.record
    assert record is not None
    assert record.rule == "sld"
    assert record.parameters["threshold"] == 0.0
    assert record.rows == (2,) * 3 + (3,) * 7
    assert record.concept_rows == (0,) * 3 + (1,) * 7
    assert record.guidance_scale == 5.0


def test_each_text_is_encoded_once(
    sd: Any, latents_of: Latents, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = type(sd).encode_prompt

    @functools.wraps(encode)
    def counted(self: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(prompt)
        return encode(self, prompt, *args, **kwargs)

    monkeypatch.setattr(type(sd), "encode_prompt", counted)
    with attach(sd, "sld", ["a text of this test alone"]):
        latents_of(sd, steps=2)
        latents_of(sd, ["a", "b"], steps=2)
    assert seen.count("a text of this test alone") == 1


def test_presence_chooses_among_all_names_of_a_concept(sd: Any, latents_of: Latents) -> None:
    """The prompt names the third; one row is predicted, and it is that name's."""
    concept = Concept(
        id="weapons",
        names={"en": ("bomb", "pistol"), "ja": ("銃",)},
        prompts=("a weapon",),
        hazard="weapons",
        severity="high",
    )
    with attach(sd, "presence:every_step", [concept]) as attached:
        chosen = latents_of(sd, "dog, pistol")
    assert attached.record is not None
    assert attached.record.concepts == (("a weapon", "bomb", "pistol"),)
    assert attached.record.chosen == (("pistol",),)
    assert set(attached.record.concept_rows) == {1}
    with attach(sd, "presence:every_step", ["pistol"]):
        assert torch.equal(latents_of(sd, "dog, pistol"), chosen)
    with attach(sd, "sld", [concept]) as attached:
        latents_of(sd, "dog, pistol")
    assert attached.record is not None
    assert attached.record.concepts == (("a weapon",),)


def test_each_image_chooses_among_its_own_texts(sd: Any, latents_of: Latents) -> None:
    prompts, lists = ["dog, pistol", "a cat", "bomb"], [["bomb", "pistol"], [], ["bomb", "x", "y"]]
    with attach(sd, "presence:every_step", lists) as attached:
        together = latents_of(sd, prompts, num_images_per_prompt=2)
    assert attached.record is not None
    assert attached.record.chosen == (("pistol",),) * 2 + ((),) * 2 + (("bomb",),) * 2
    with attach(sd, "presence:every_step,nearest=0", [["pistol"], [], ["bomb"]]) as attached:
        alone = latents_of(sd, prompts, num_images_per_prompt=2)
    torch.testing.assert_close(together, alone)
    assert attached.record.chosen is None  # type: ignore[union-attr]


def test_prompts_far_from_the_concept_cost_nothing(sd: Any, latents_of: Latents) -> None:
    prompts = ["a pistol", "xyz qrs uvw"]
    with attach(sd, "presence:every_step,far=0.9", ["a pistol"]) as attached:
        latents_of(sd, prompts)
    assert attached.record is not None
    assert set(attached.record.concept_rows) == {1}
    with attach(sd, "presence:every_step", ["a pistol"]) as attached:
        latents_of(sd, prompts)
    assert attached.record is not None
    assert set(attached.record.concept_rows) == {2}


def test_two_rules_at_once_share_one_forward(sd: Any, latents_of: Latents) -> None:
    before, plain = state_of(sd), latents_of(sd)
    with attach(sd, "sld:max", ["a pistol"]) as outer:
        alone = latents_of(sd)
        with attach(sd, "sega", ["a bomb"]) as inner:
            both = latents_of(sd)
        torch.testing.assert_close(latents_of(sd), alone)
    assert not torch.equal(both, alone)
    assert outer.record is not None
    assert inner.record is not None
    assert set(inner.record.rows) == {4}
    assert set(inner.record.concept_rows) == {1}
    assert state_of(sd)[:2] == before[:2]
    assert torch.equal(latents_of(sd), plain)


def test_a_second_rule_without_effect_changes_nothing(sd: Any, latents_of: Latents) -> None:
    with attach(sd, "sld:max", ["a pistol"]):
        alone = latents_of(sd)
        with attach(sd, "sega", ["a bomb"], strength=0):
            torch.testing.assert_close(latents_of(sd), alone)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_stays_finite_and_close(
    sd: Any, like: Callable[..., Any], latents_of: Latents, name: str
) -> None:
    import copy

    dtype = getattr(torch, name)
    parts = {part: copy.deepcopy(getattr(sd, part)) for part in ("unet", "text_encoder", "vae")}
    half = like(sd, **{part: model.to(dtype) for part, model in parts.items()})
    starts = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with attach(sd, "sld", ["a pistol"]):
        exact = latents_of(sd, steps=3, latents=starts)
    plain = latents_of(sd, steps=3, latents=starts)
    with attach(half, "sld", ["a pistol"]):
        rough = latents_of(half, steps=3, latents=starts.to(dtype))
    assert rough.dtype == dtype
    assert torch.isfinite(rough).all()
    distance = (rough.float() - exact).abs().mean()
    assert distance < 0.5 * (exact - plain).abs().mean()


def test_rescaling_by_the_pipeline_uses_the_untouched_prompt_row(
    sd: Any, latents_of: Latents
) -> None:
    """At full rescale the guided prediction has the standard deviation of ε_p."""
    seen: list[torch.Tensor] = []
    handle = sd.unet.register_forward_hook(lambda module, given, output: seen.append(output[0]))
    stds: list[float] = []
    step = sd.scheduler.step

    def watched(prediction: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        stds.append(float(prediction.std() / seen[-1][1].std()))
        return step(prediction, *args, **kwargs)

    sd.scheduler.step = watched
    try:
        with attach(sd, "sld:max", ["a pistol"]):
            latents_of(sd, guidance_rescale=1.0)
    finally:
        handle.remove()
        del sd.scheduler.step
    assert stds == pytest.approx([1.0] * 6, rel=1e-4)


def test_without_guidance_the_error_says_what_to_do(sd: Any, latents_of: Latents) -> None:
    plain = latents_of(sd)
    with attach(sd, "sld", ["a pistol"]), pytest.raises(BadInput, match="guidance scale above 1"):
        latents_of(sd, guidance_scale=1.0)
    assert torch.equal(latents_of(sd), plain)


def test_a_prediction_that_is_not_finite_names_step_and_rule(sd: Any, latents_of: Latents) -> None:
    calls: list[int] = []
    forward = type(sd.unet).forward

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        output = forward(self, *args, **kwargs)
        return (output[0] * (torch.nan if len(calls) == 3 else 1),)

    sd.unet.forward = broken.__get__(sd.unet)
    try:
        with attach(sd, "sega", ["a pistol"]), pytest.raises(RunFailed) as caught:
            latents_of(sd)
    finally:
        del sd.unet.forward
    assert "sega" in str(caught.value)
    assert "step 3 of 6" in str(caught.value)
    assert "denoiser" in str(caught.value)


@pytest.mark.parametrize(
    ("concepts", "strength", "message"),
    [
        ([], 1.0, "at least one concept"),
        (["  "], 1.0, "empty concept"),
        (["a"], float("nan"), "finite"),
        (["a"], -1.0, "from 0 on"),
        (["a", "b"], [1.0], "1 strengths were given for 2"),
        (["a", ["b"]], 1.0, "not a mixture"),
        ([["a"], ["b"]], [[1.0]], "1 lists of strengths"),
        ([3], 1.0, "neither a concept nor a text"),
    ],
)
def test_bad_concepts_and_strengths(
    sd: Any, concepts: list[Any], strength: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message), attach(sd, "sld", concepts, strength=strength):
        pass


def test_lists_for_another_number_of_prompts(sd: Any, latents_of: Latents) -> None:
    with attach(sd, "sld", [["a"], ["b"]]), pytest.raises(BadInput, match="for 2 prompts"):
        latents_of(sd, "a cat")


def test_concepts_that_the_encoder_would_not_read_are_refused(sd: Any, latents_of: Latents) -> None:
    with attach(sd, "sld", ["weapon"] * 20), pytest.raises(BadInput, match="reads only the first"):
        latents_of(sd)


def test_an_unknown_pipeline_and_an_unknown_rule(sd: Any) -> None:
    with pytest.raises(UnknownName, match="Did you mean sld"), attach(sd, "slld", ["a"]):
        pass
    with pytest.raises(UnknownName, match="pipeline class"), attach(object(), "sld", ["a"]):
        pass
    with pytest.raises(BadInput, match="not a guidance rule"), attach(sd, 3, ["a"]):  # type: ignore[arg-type]
        pass


def test_a_rule_object_and_its_name_do_the_same(sd: Any, latents_of: Latents) -> None:
    assert "sld" in names()
    with attach(sd, SafeLatentDiffusion.preset("strong"), [PISTOL]):
        first = latents_of(sd)
    with attach(sd, "sld:strong", "a pistol"):
        assert torch.equal(latents_of(sd), first)
