"""Folding beside fused projections, offloading and LoRAs; nothing is folded that does nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.context.fold import fold, folded, unfold
from tadasu.backends.diffusers.context.ports import denoiser_of, gram, ports
from tadasu.backends.diffusers.context.text import PipelineEncoder, fingerprint
from tadasu.backends.diffusers.load import system_hash
from tadasu.editing.context_map import ContextMap
from tadasu.editing.encoder import same_encoder
from tadasu.editing.problem import Kept, Reading, assemble
from tadasu.editing.targets import erase
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.errors import BadInput

Picture = Callable[..., torch.Tensor]
SOLVER = UnifiedConceptEditing(reading=Reading(tokens="last+tail"))


def _maps(pipe: Any, concept: str = "pistol") -> dict[str, ContextMap]:
    problems = assemble(
        PipelineEncoder(pipe),
        erase([concept], "toy"),
        reading=SOLVER.reading,
        kept=Kept(texts=("cat",)),
    )
    return {site: SOLVER.solve(problem) for site, problem in problems.items()}


def _weights(pipe: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in denoiser_of(pipe).state_dict().items()}


def _fuse_lora(pipe: Any) -> None:
    from peft import LoraConfig

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["to_k", "to_v"], init_lora_weights=False)
    pipe.unet.add_adapter(config)
    pipe.fuse_lora()
    pipe.unload_lora_weights()


@pytest.fixture
def sd(families: dict[str, Any]) -> Any:
    return copy.deepcopy(families["sd"])


def test_fused_projections_are_folded_too(sd: Any, picture: Picture) -> None:
    plain = picture(sd)
    fold(sd, "edit", _maps(sd))
    wanted = picture(sd)
    unfold(sd, "edit")
    sd.fuse_qkv_projections()
    fold(sd, "edit", _maps(sd))
    torch.testing.assert_close(picture(sd), wanted, rtol=1e-3, atol=1e-3)
    sd.unfuse_qkv_projections()
    torch.testing.assert_close(picture(sd), wanted, rtol=1e-3, atol=1e-3)
    unfold(sd, "edit")
    sd.fuse_qkv_projections()
    torch.testing.assert_close(picture(sd), plain, rtol=1e-3, atol=1e-3)


def test_projections_fused_after_the_fold_are_unfolded_too(sd: Any, picture: Picture) -> None:
    plain = picture(sd)
    fold(sd, "edit", _maps(sd))
    sd.fuse_qkv_projections()
    unfold(sd, "edit")
    torch.testing.assert_close(picture(sd), plain, rtol=1e-3, atol=1e-3)


def test_a_lora_that_was_fused_meanwhile_stays(sd: Any) -> None:
    other = copy.deepcopy(sd)
    _fuse_lora(other)
    fold(sd, "edit", _maps(sd))
    _fuse_lora(sd)
    fold(sd, "second", _maps(sd, "bomb"))
    unfold(sd, "edit")
    unfold(sd, "second")
    assert not folded(sd)
    wanted = _weights(other)
    for name, value in _weights(sd).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6)


def test_a_model_that_was_cast_meanwhile_is_as_if_only_cast(sd: Any) -> None:
    other = copy.deepcopy(sd.unet).to(torch.bfloat16)
    fold(sd, "edit", _maps(sd))
    sd.unet.to(torch.bfloat16)
    unfold(sd, "edit")
    wanted = dict(other.state_dict())
    assert all(torch.equal(value, wanted[name]) for name, value in _weights(sd).items())


def test_weights_that_were_replaced_are_left_alone(sd: Any) -> None:
    before = _weights(sd)
    fold(sd, "edit", _maps(sd))
    sd.unet.load_state_dict(before)
    with pytest.raises(BadInput, match="were replaced"):
        unfold(sd, "edit")
    assert not folded(sd)
    assert all(torch.equal(value, before[name]) for name, value in _weights(sd).items())
    fold(sd, "edit", _maps(sd))
    unfold(sd, "edit")
    assert all(torch.equal(value, before[name]) for name, value in _weights(sd).items())


@pytest.mark.parametrize("kind", ["sequential", "leaf_level", "block_level"])
def test_weights_that_lie_elsewhere_are_read_but_not_written(
    sd: Any, kind: str, tmp_path: Path, picture: Picture
) -> None:
    from accelerate import cpu_offload

    maps, grams = _maps(sd), gram(ports(sd)["context"])
    system, encoder = system_hash(sd), fingerprint(sd)
    if kind == "sequential":
        cpu_offload(sd.unet, torch.device("cpu"))
    else:
        sd.unet.enable_group_offload(
            onload_device=torch.device("cpu"),
            offload_device=torch.device("cpu"),
            offload_type=kind,
            num_blocks_per_group=1 if kind == "block_level" else None,
            offload_to_disk_path=str(tmp_path),
        )
    with pytest.raises(BadInput, match="not in memory"):
        fold(sd, "edit", maps)
    assert not folded(sd)
    assert torch.equal(gram(ports(sd)["context"]), grams)
    assert (system_hash(sd), fingerprint(sd)) == (system, encoder)


def test_a_layer_that_computes_with_other_weights_is_refused(sd: Any) -> None:
    before = _weights(sd)
    layer: Any = ports(sd)["context"][0].layer
    kept = layer.weight.detach().clone()
    layer.forward = lambda row: torch.nn.functional.linear(row, kept)
    with pytest.raises(BadInput, match="computes with other weights"):
        fold(sd, "edit", _maps(sd))
    assert all(torch.equal(value, before[name]) for name, value in _weights(sd).items())


def test_one_encoder_in_any_precision_is_one_encoder(sd: Any) -> None:
    found = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        other = copy.deepcopy(sd)
        other.text_encoder.to(dtype)
        found[dtype] = fingerprint(other)
    assert all(same_encoder(one, other) for one in found.values() for other in found.values())
    trained = copy.deepcopy(sd)
    with torch.no_grad():
        for weight in trained.text_encoder.parameters():
            weight += 0.02 * weight.std(correction=0) * torch.randn_like(weight)
    assert not same_encoder(found[torch.float32], fingerprint(trained))
    assert same_encoder(found[torch.float32].split("/")[0], found[torch.float16])  # older files
