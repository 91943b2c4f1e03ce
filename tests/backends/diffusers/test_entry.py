"""What is attached is found by the run, whatever happens to hooks, classes, copies and parts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.errors import BadInput, RunFailed, TadasuError

Latents = Callable[..., torch.Tensor]
RULE = ("sld:max", ["a pistol"])


@pytest.fixture
def pipe(sd_parts: Any, like: Callable[..., Any]) -> Any:
    """A pipeline whose denoiser and text encoder are its own."""
    parts = {name: copy.deepcopy(getattr(sd_parts, name)) for name in ("unet", "text_encoder")}
    return like(sd_parts, **parts)


@pytest.fixture
def guided(pipe: Any, latents_of: Latents) -> torch.Tensor:
    """What the rule makes of the fixed seed."""
    plain = latents_of(pipe)
    with attach(pipe, *RULE):
        found = latents_of(pipe)
    assert not torch.equal(found, plain)
    return found


def test_model_offload_installs_its_hooks_again_after_every_call(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    pipe.enable_model_cpu_offload(device="cpu")
    with attach(pipe, *RULE) as attached:
        for _ in range(3):
            assert torch.equal(latents_of(pipe), guided)
            assert attached.record is not None
            assert attached.record.rows == (3,) * 6
            assert attached.record.acted == (6,)


def test_offload_switched_on_and_off_inside_the_block(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    plain, before = latents_of(pipe), type(pipe.unet)
    with attach(pipe, *RULE):
        pipe.enable_model_cpu_offload(device="cpu")
        assert torch.equal(latents_of(pipe), guided)
        pipe.remove_all_hooks()
        assert torch.equal(latents_of(pipe), guided)
        pipe.to("cpu")
        assert torch.equal(latents_of(pipe), guided)
    assert type(pipe.unet) is before
    assert torch.equal(latents_of(pipe), plain)


def test_hooks_put_on_before_and_taken_off_inside(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    pipe.enable_model_cpu_offload(device="cpu")
    with attach(pipe, *RULE):
        pipe.remove_all_hooks()
        assert torch.equal(latents_of(pipe), guided)
    assert not hasattr(pipe.unet, "_hf_hook")


def test_a_forward_that_another_tool_restores(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    saved = pipe.unet.forward
    with attach(pipe, *RULE):
        pipe.unet.forward = saved
        assert torch.equal(latents_of(pipe), guided)
    assert vars(pipe.unet).pop("forward") is saved


def test_a_denoiser_replaced_inside_the_block(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    with attach(pipe, *RULE):
        pipe.unet = copy.deepcopy(pipe.unet)
        assert torch.equal(latents_of(pipe), guided)
    assert latents_of(pipe).isfinite().all()


def test_a_denoiser_replaced_in_the_middle_of_a_run(pipe: Any, latents_of: Latents) -> None:
    other = copy.deepcopy(pipe.unet)

    def swap(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        if step == 2:
            pipe.unet = other
        return kwargs

    with attach(pipe, *RULE), pytest.raises(RunFailed, match="replaced while it ran"):
        latents_of(pipe, callback_on_step_end=swap)


def test_a_denoiser_called_around_the_door(pipe: Any, latents_of: Latents) -> None:
    class Around:
        """Calls forward itself, as some wrappers do."""

        def __init__(self, unet: Any) -> None:
            self._unet = unet

        def __getattr__(self, name: str) -> Any:
            return getattr(self._unet, name)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self._unet.forward(*args, **kwargs)

    unet = pipe.unet
    with attach(pipe, *RULE):
        pipe.unet = Around(unet)
        with pytest.raises(BadInput, match="not a torch module"):
            latents_of(pipe)
        pipe.unet = unet


def test_a_denoiser_that_is_called_by_its_forward_is_noticed(
    pipe: Any, latents_of: Latents
) -> None:
    class Around(torch.nn.Module):
        def __init__(self, unet: Any) -> None:
            super().__init__()
            self.unet, self.config = unet, unet.config
            self.dtype, self.device = unet.dtype, unet.device

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.unet.forward(*args, **kwargs)

    scale = type(pipe).__call__

    class Short(type(pipe)):  # type: ignore[misc]
        """Its call makes no step that the door sees."""

        def __call__(self, prompt: Any = None, guidance_scale: float = 5.0, **rest: Any) -> Any:
            self.__dict__["unet"], unet = Around(self.unet), self.unet
            try:
                return scale(self, prompt, guidance_scale=guidance_scale, **rest)
            finally:
                self.__dict__["unet"] = unet

    pipe.__class__ = Short
    with attach(pipe, *RULE), pytest.raises(RunFailed, match="acted on 0 of 6 steps"):
        latents_of(pipe)


def test_a_call_bound_before_the_block_is_refused(pipe: Any, latents_of: Latents) -> None:
    call = pipe.__call__
    with attach(pipe, *RULE), pytest.raises(BadInput, match="outside a run"):
        call("a cat", num_inference_steps=2)
    assert call("a cat", num_inference_steps=2, output_type="latent").images is not None


def test_copies_and_siblings_are_guided_or_refused(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline

    plain = latents_of(pipe)
    before = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    before.set_progress_bar_config(disable=True)
    with attach(pipe, *RULE):
        made = [
            copy.copy(pipe),
            copy.deepcopy(pipe),
            type(pipe).from_pipe(pipe),
            StableDiffusionPipeline.from_pipe(pipe),
            StableDiffusionPipeline(**pipe.components, requires_safety_checker=False),
            before,
        ]
        for each in made:
            each.set_progress_bar_config(disable=True)
            try:
                assert torch.equal(latents_of(each), guided)
            except TadasuError as error:
                assert "Attach the rule to the pipeline that is called" in str(error)  # noqa: PT017
        other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
        with pytest.raises(BadInput, match="Attach the rule"):
            other("a cat", image=torch.rand(1, 3, 16, 16), num_inference_steps=4)
        with attach(other, *RULE) as attached:
            other("a cat", image=torch.rand(1, 3, 16, 16), num_inference_steps=4, guidance_scale=5)
        assert attached.record is not None
        assert attached.record.acted == (attached.record.steps,)
    for each in made:
        assert torch.equal(latents_of(each), plain)
        assert type(each) is StableDiffusionPipeline
        assert type(each.unet) is type(before.unet)
    assert pickle.loads(pickle.dumps(pipe.unet)) is not None


def test_a_copy_uses_its_own_guidance_scale(pipe: Any, latents_of: Latents) -> None:
    with attach(pipe, *RULE):
        latents_of(pipe, guidance_scale=9.0)
        other = copy.copy(pipe)
        found = latents_of(other, guidance_scale=5.0)
        assert torch.equal(found, latents_of(pipe, guidance_scale=5.0))


def test_a_rule_put_on_a_copy_joins_what_the_original_has(pipe: Any, latents_of: Latents) -> None:
    with attach(pipe, *RULE):
        alone = latents_of(pipe)
        other = copy.copy(pipe)
        with attach(other, "sega", ["a bomb"]):
            both = latents_of(other)
            assert torch.equal(latents_of(pipe), alone)
        with attach(pipe, "sega", ["a bomb"]):
            assert torch.equal(latents_of(pipe), both)
        assert torch.equal(latents_of(other), alone)


def test_blocks_that_end_in_another_order(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    plain = latents_of(pipe)
    first, second = attach(pipe, "sega", ["a bomb"]), attach(pipe, *RULE)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.equal(latents_of(pipe), guided)
    second.__exit__(None, None, None)
    assert torch.equal(latents_of(pipe), plain)


def test_two_pipelines_that_share_a_denoiser(
    pipe: Any, like: Callable[..., Any], guided: torch.Tensor, latents_of: Latents
) -> None:
    other, plain = like(pipe), latents_of(pipe)
    with attach(other, "sega", ["a bomb"]):
        apart = latents_of(other)
    first, second = attach(other, "sega", ["a bomb"]), attach(pipe, *RULE)
    first.__enter__()
    second.__enter__()
    assert torch.equal(latents_of(other), apart)
    assert torch.equal(latents_of(pipe), guided)
    first.__exit__(None, None, None)
    assert torch.equal(latents_of(pipe), guided)
    second.__exit__(None, None, None)
    assert torch.equal(latents_of(pipe), plain)
    assert torch.equal(latents_of(other), plain)


@pytest.mark.parametrize("when", ["before", "inside", "in place"])
def test_compiled_denoisers(
    pipe: Any, guided: torch.Tensor, latents_of: Latents, when: str
) -> None:
    if when == "before":
        pipe.unet = torch.compile(pipe.unet, backend="eager")
        latents_of(pipe)
    if when == "in place":
        pipe.unet.compile(backend="eager")
        latents_of(pipe)
    with attach(pipe, *RULE) as attached:
        if when == "inside":
            pipe.unet = torch.compile(pipe.unet, backend="eager")
        torch.testing.assert_close(latents_of(pipe), guided, rtol=1e-3, atol=1e-3)
    assert attached.record is not None
    assert attached.record.acted == (6,)


def test_processors_loras_and_casting_inside_the_block(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    from diffusers.models.attention_processor import AttnProcessor
    from peft import LoraConfig

    with attach(pipe, *RULE) as attached:
        pipe.unet.set_attn_processor(AttnProcessor())
        torch.testing.assert_close(latents_of(pipe), guided, rtol=1e-3, atol=1e-3)
        pipe.fuse_qkv_projections()
        torch.testing.assert_close(latents_of(pipe), guided, rtol=1e-3, atol=1e-3)
        pipe.unfuse_qkv_projections()
        config = LoraConfig(r=2, target_modules=["to_k"], init_lora_weights=False)
        pipe.unet.add_adapter(config, adapter_name="mine")
        pipe.set_adapters(["mine"], [0.0])
        torch.testing.assert_close(latents_of(pipe), guided, rtol=1e-3, atol=1e-3)
        pipe.unet.enable_layerwise_casting(torch.bfloat16, torch.float32)
        assert latents_of(pipe).isfinite().all()
        assert attached.record is not None
        assert attached.record.acted == (6,)


def test_a_run_inside_a_run_is_refused(pipe: Any, like: Any, latents_of: Latents) -> None:
    other = like(pipe)

    def again(_: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        for each in (pipe, other, copy.copy(pipe)):
            with pytest.raises(BadInput, match="already generating"), attach(each, *RULE):
                each("a cat", num_inference_steps=2, guidance_scale=5.0)
        return kwargs

    with attach(pipe, *RULE) as attached:
        latents_of(pipe, steps=2, callback_on_step_end=again)
    assert attached.record is not None
    assert attached.record.acted == (2,)


def test_a_run_that_is_stopped_was_guided_as_far_as_it_went(pipe: Any, latents_of: Latents) -> None:
    def stop(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        pipe._interrupt = step == 3
        return kwargs

    plain = latents_of(pipe, callback_on_step_end=stop)
    with attach(pipe, *RULE) as attached:
        assert not torch.equal(latents_of(pipe, callback_on_step_end=stop), plain)
    assert attached.record is not None
    assert (attached.record.steps, attached.record.acted) == (4, (4,))


def test_guidance_switched_off_in_the_middle_is_refused(pipe: Any, latents_of: Latents) -> None:
    def off(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        pipe._guidance_scale = 0.0
        kwargs["prompt_embeds"] = kwargs["prompt_embeds"].chunk(2)[-1]
        return kwargs

    inputs = {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    with attach(pipe, *RULE), pytest.raises(BadInput, match="without classifier-free guidance"):
        latents_of(pipe, callback_on_step_end=off, **inputs)


def test_a_scheduler_that_somebody_else_sets_is_noticed(pipe: Any, latents_of: Latents) -> None:
    def set_anew(pipe: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        pipe.scheduler.set_timesteps(3)
        return kwargs

    with attach(pipe, *RULE), pytest.raises(RunFailed, match="scheduler was set or stepped"):
        latents_of(pipe, callback_on_step_end=set_anew)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers on NumPy 2
@pytest.mark.parametrize(
    "name",
    ["PNDMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler"],
)
def test_schedulers_with_steps_of_their_own(
    sd_parts: Any, like: Any, latents_of: Latents, name: str
) -> None:
    import diffusers

    cls = getattr(diffusers, name)
    pipe = like(sd_parts, scheduler=cls.from_config(sd_parts.scheduler.config))
    plain = latents_of(pipe)
    with attach(pipe, *RULE) as attached:
        assert not torch.equal(latents_of(pipe), plain)
    assert attached.record is not None
    assert attached.record.acted == (attached.record.steps,)
    assert attached.record.steps == pipe._num_timesteps


def test_a_subclass_that_passes_everything_on(
    pipe: Any, guided: torch.Tensor, latents_of: Latents
) -> None:
    class Mine(type(pipe)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    pipe.__class__ = Mine
    with attach(pipe, *RULE):
        assert torch.equal(latents_of(pipe), guided)
    assert type(pipe) is Mine
