"""Settings of a pipeline for a while, and a lighter denoiser."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from tadasu import world
from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.settings import adapted, file_hash, fuse, lighten, scheduled
from tadasu.errors import BadFile, BadInput, UnknownName


def drawn(pipe: Any) -> np.ndarray:
    image = pipe("a cat", num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[
        0
    ]
    return np.asarray(image).astype(int)


def test_a_scheduler_for_a_while_and_a_denoiser_for_good() -> None:
    pipe = world.pipeline("cpu")
    before, own = drawn(pipe), pipe.scheduler
    with scheduled(pipe, {"timestep_spacing": "trailing"}):
        assert pipe.scheduler.config.timestep_spacing == "trailing"
        assert not np.array_equal(drawn(pipe), before)
    assert pipe.scheduler is own
    with scheduled(pipe, {}):
        assert pipe.scheduler is own
    lighten(pipe, "bfloat16")
    assert {value.dtype for value in pipe.unet.parameters()} == {torch.bfloat16}
    assert pipe.text_encoder.dtype != torch.bfloat16
    light = drawn(pipe)
    assert 0 < np.abs(light - before).mean() < 8  # of 255: the same picture, other rounding
    with attach(pipe, "sld", ["a pistol"]):
        assert not np.array_equal(drawn(pipe), light)
    assert np.array_equal(drawn(pipe), light)


def test_few_step_schedulers_are_offered_where_they_fit() -> None:
    """LCM and TCD read the configuration of DDIM; diffusers does not list them beside it."""
    pipe = world.pipeline("cpu")
    own = pipe.scheduler
    for name in ("LCMScheduler", "TCDScheduler"):
        with scheduled(pipe, {"name": name}):
            assert type(pipe.scheduler).__name__ == name
            assert pipe.scheduler.config.beta_end == own.config.beta_end
            with scheduled(pipe, {"name": "DDIMScheduler"}):
                assert type(pipe.scheduler) is type(own)
    assert pipe.scheduler is own
    flow = SimpleNamespace(scheduler=FlowMatchEulerDiscreteScheduler())
    with pytest.raises(UnknownName, match="scheduler"), scheduled(flow, {"name": "LCMScheduler"}):
        pass


def test_a_fused_file_acts_like_a_loaded_one_and_stays() -> None:
    pipe = world.pipeline("cpu")
    adapter = next(a for a in world.adapters() if a.recipe == "attention-r2" and a.trained)
    before = drawn(pipe)
    with adapted(pipe, [str(adapter.path)]):
        loaded = drawn(pipe)
    assert np.abs(loaded - before).max() > 8
    assert np.array_equal(drawn(pipe), before)
    fuse(pipe, str(adapter.path), {})
    assert not pipe.get_list_adapters()
    assert np.abs(drawn(pipe) - loaded).max() <= 1  # of 255: sums in another order


def test_bad_settings_are_refused(tmp_path: Any) -> None:
    class Bare:
        def get_list_adapters(self) -> dict[str, Any]:
            return {}

    with pytest.raises(UnknownName, match="precision"):
        lighten(Bare(), "int3")
    with pytest.raises(BadInput, match="has a denoiser"):
        lighten(Bare(), "bfloat16")
    with pytest.raises(BadInput, match="takes LoRA"), adapted(Bare(), ["a.safetensors"]):
        pass
    with pytest.raises(BadFile, match="Cannot read"):
        file_hash(str(tmp_path / "absent"))
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(str(tmp_path / "a")).startswith("sha256:ba7816bf")
