"""Edits at run time act on every step, whatever happens to the layers that read the text."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.text import PipelineEncoder
from tadasu.editing.conditional import ConditionalEditing
from tadasu.editing.context_map import ContextMap
from tadasu.editing.layer import LayerEditing
from tadasu.editing.problem import Kept, Reading, assemble
from tadasu.editing.targets import erase
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.errors import RunFailed

Picture = Callable[..., torch.Tensor]
SOLVER = UnifiedConceptEditing(reading=Reading(tokens="last+tail", templates=("{}", "a {}")))


def _maps(pipe: Any, concept: str = "pistol") -> dict[str, ContextMap]:
    problems = assemble(
        PipelineEncoder(pipe, sequence_length=8),
        erase([concept], "toy"),
        reading=SOLVER.reading,
        kept=Kept(texts=("cat",)),
    )
    return {site: SOLVER.solve(problem) for site, problem in problems.items()}


@pytest.fixture
def sd(families: dict[str, Any]) -> Any:
    return copy.deepcopy(families["sd"])


@pytest.fixture
def edited(sd: Any, picture: Picture) -> torch.Tensor:
    with applied(sd, _maps(sd)):
        return picture(sd)


def test_every_family_says_what_moved(pipe: Any, picture: Picture) -> None:
    maps = _maps(pipe)
    with applied(pipe, maps) as acting:
        assert acting.record is None
        picture(pipe)
        record = acting.record
    assert record is not None
    assert set(record.sites) == set(maps)
    assert record.calls >= 2
    assert len(record.pictures) == 1
    assert record.pictures[0] > 0.01


def test_the_record_is_per_picture(sd: Any) -> None:
    solver = ConditionalEditing(base=SOLVER)
    problems = assemble(
        PipelineEncoder(sd), erase(["pistol"]), reading=solver.reading, kept=Kept(texts=("cat",))
    )
    gated = {site: solver.solve(problem) for site, problem in problems.items()}
    with applied(sd, gated) as acting:
        sd(["a cat", "a pistol"], num_inference_steps=2, output_type="latent")
    assert acting.record is not None
    quiet, loud = acting.record.pictures
    assert quiet == 0 < loud
    assert acting.record.of(1)["moved"] == loud


@pytest.mark.parametrize("wrapper", [True, False])
def test_a_compiled_denoiser_that_has_run(
    sd: Any, edited: torch.Tensor, picture: Picture, wrapper: bool
) -> None:
    if wrapper:
        sd.unet = torch.compile(sd.unet, backend="eager")
    else:
        sd.unet.compile(backend="eager")
    plain = picture(sd)
    with applied(sd, _maps(sd)):
        torch.testing.assert_close(picture(sd), edited, rtol=1e-3, atol=1e-3)
    assert torch.equal(picture(sd), plain)


def test_fused_projections_offloading_and_restored_forwards(
    sd: Any, edited: torch.Tensor, picture: Picture
) -> None:
    from accelerate import cpu_offload

    maps = _maps(sd)
    with applied(sd, maps):
        sd.fuse_qkv_projections()
        torch.testing.assert_close(picture(sd), edited, rtol=1e-3, atol=1e-3)
        sd.unfuse_qkv_projections()
        sd.enable_model_cpu_offload(device="cpu")
        for _ in range(2):
            assert torch.equal(picture(sd), edited)
        sd.remove_all_hooks()
        for layer in sd.unet.modules():
            layer._forward_pre_hooks.clear()
        assert torch.equal(picture(sd), edited)
        cpu_offload(sd.unet, torch.device("cpu"))
        assert torch.equal(picture(sd), edited)


def test_a_copied_and_a_replaced_denoiser(sd: Any, edited: torch.Tensor, picture: Picture) -> None:
    plain = picture(sd)
    with applied(sd, _maps(sd)):
        others = [copy.copy(sd), copy.deepcopy(sd), type(sd).from_pipe(sd)]
        sd.unet = copy.deepcopy(sd.unet)
        for each in (sd, *others):
            each.set_progress_bar_config(disable=True)
            assert torch.equal(picture(each), edited)
    for each in (sd, *others):
        assert torch.equal(picture(each), plain)


def test_threads_with_different_edits(sd: Any, picture: Picture) -> None:
    maps = [_maps(sd, concept) for concept in ("pistol", "bomb")]

    def draw(number: int) -> torch.Tensor:
        with applied(sd, maps[number]):
            return picture(sd)

    wanted = [draw(number) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda i: draw(i % 2), range(12)))
    assert all(torch.equal(each, wanted[i % 2]) for i, each in enumerate(found))


def test_a_layer_edit_needs_the_text(sd: Any, picture: Picture) -> None:
    from tadasu.backends.diffusers.context.text import HiddenEncoder

    solver = LayerEditing()
    problems = assemble(
        HiddenEncoder(sd),
        erase(["pistol"], "toy"),
        reading=solver.reading,
        kept=Kept(texts=("cat",)),
    )
    maps = {site: solver.solve(problem) for site, problem in problems.items()}
    count, plain = len(list(sd.text_encoder.modules())), picture(sd)
    with applied(sd, maps) as acting:
        assert not torch.equal(picture(sd), plain)
        assert acting.record is not None
        assert acting.record.encoded > 0
        assert len(list(sd.text_encoder.modules())) == count
        before = sd.encode_prompt("a pistol", "cpu", 1, False)[0]
        with pytest.raises(RunFailed, match="Give the prompt as text"):
            sd(prompt_embeds=before, guidance_scale=1.0, num_inference_steps=2)
    assert not torch.equal(sd.encode_prompt("a pistol", "cpu", 1, False)[0], before)
    assert torch.equal(picture(sd), plain)
