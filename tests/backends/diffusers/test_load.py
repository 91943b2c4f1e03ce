"""Loading model folders: whole ones load, broken ones say what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.load import (
    Watched,
    check_folder,
    default_dtype,
    load,
    system_hash,
)
from tadasu.errors import BadFile, BadInput


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, sd_parts: Any) -> Path:
    path = tmp_path_factory.mktemp("model")
    sd_parts.save_pretrained(path)
    return path


def test_what_was_saved_is_loaded(folder: Path) -> None:
    pipe = load(str(folder), device="cpu")
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    assert pipe.unet.dtype is torch.float32
    assert system_hash(pipe) == system_hash(load(str(folder), device="cpu"))


def test_every_weight_and_setting_counts_for_the_id(folder: Path) -> None:
    pipe = load(str(folder), device="cpu")
    before = system_hash(pipe)
    weight = next(pipe.text_encoder.parameters())
    weight.data.view(-1)[0] += 1e-3
    assert system_hash(pipe) != before
    weight.data.view(-1)[0] -= 1e-3
    pipe.scheduler.register_to_config(beta_end=0.013)
    assert system_hash(pipe) != before


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae", "tokenizer"])
def test_a_missing_part_is_named(folder: Path, tmp_path: Path, part: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    shutil.rmtree(broken / part)
    with pytest.raises(BadFile, match=part):
        load(str(broken), device="cpu")


def test_damaged_weights_are_one_clear_message(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadFile, match="cannot be loaded"):
        load(str(broken), device="cpu")


def test_no_folder_no_index_no_device(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no model folder"):
        load(str(tmp_path / "nothing"))
    with pytest.raises(BadFile, match=r"model_index\.json"):
        load(str(tmp_path))
    file = tmp_path / "model.safetensors"
    file.write_text("x")
    with pytest.raises(BadFile, match="is a file"):
        load(str(file))
    with pytest.raises(BadInput, match="device"):
        load(str(folder), device="abacus")


def test_a_damaged_index(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("[1, 2")
    with pytest.raises(BadFile, match="damaged"):
        check_folder(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps([1, 2]))
    with pytest.raises(BadFile, match="damaged"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    ("pipeline", "half"),
    [
        ("StableDiffusionPipeline", torch.float16),
        ("StableDiffusionXLPipeline", torch.float16),
        ("StableDiffusion3Pipeline", torch.float16),
        ("FluxPipeline", torch.bfloat16),
        ("Flux2Pipeline", torch.bfloat16),
        ("QwenImagePipeline", torch.bfloat16),
        ("ZImagePipeline", torch.bfloat16),
        ("SanaPipeline", torch.bfloat16),
        ("OfTomorrowPipeline", torch.bfloat16),
    ],
)
def test_each_family_has_its_half_precision(
    tmp_path: Path, pipeline: str, half: torch.dtype
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    assert default_dtype(str(tmp_path), "cuda:1") is half
    assert default_dtype(str(tmp_path), "xpu") is half
    assert default_dtype(str(tmp_path), "cpu") is torch.float32
    assert default_dtype(str(tmp_path), "mps") is torch.float32


def test_weights_that_offloading_moved_are_the_same_weights(sd: Any) -> None:
    watched = Watched()
    assert watched.version(sd) == 1
    assert watched.version(sd) == 1
    for parameter in sd.unet.parameters():  # what moving a module does
        parameter.data = parameter.data.clone()
    assert watched.version(sd) == 1
    with torch.no_grad():
        kept = next(sd.unet.parameters())
        kept.add_(1.0)
    assert watched.version(sd) == 2
    with torch.no_grad():
        kept.sub_(1.0)
    assert watched.version(sd) == 3


def test_weights_that_were_replaced_are_others(sd: Any) -> None:
    watched, layer = Watched(), sd.unet.conv_in
    before = layer.weight
    assert watched.version(sd) == 1
    try:
        layer.weight = torch.nn.Parameter(before.detach().clone())
        assert watched.version(sd) == 2
        layer.weight.data = layer.weight.data + 1  # as a merged adapter is written
        assert watched.version(sd) == 3
    finally:
        layer.weight = before
