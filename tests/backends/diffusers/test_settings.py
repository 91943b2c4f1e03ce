"""Settings of a pipeline for a while, and a lighter denoiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tadasu import world
from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.settings import adapted, file_hash, lighten, scheduled
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
