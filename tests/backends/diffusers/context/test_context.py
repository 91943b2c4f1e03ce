from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.fold import fold, folded, unfold
from tadasu.backends.diffusers.context.lora import export
from tadasu.backends.diffusers.context.ports import denoiser_of, gram, ports
from tadasu.backends.diffusers.context.text import PipelineEncoder, fingerprint
from tadasu.editing.conditional import ConditionalEditing
from tadasu.editing.context_map import ContextMap
from tadasu.editing.problem import Kept, Reading, assemble
from tadasu.editing.targets import erase
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.errors import BadInput

Picture = Callable[..., torch.Tensor]
SOLVER = UnifiedConceptEditing(reading=Reading(tokens="last+tail", templates=("{}", "a {}")))


def _maps(pipe: Any, *concepts: str) -> dict[str, ContextMap]:
    problems = assemble(
        PipelineEncoder(pipe, sequence_length=8),
        erase(concepts or ["pistol"], "toy"),
        reading=SOLVER.reading,
        kept=Kept(texts=("cat",)),
    )
    return {site: SOLVER.solve(problem) for site, problem in problems.items()}


def _weights(pipe: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in denoiser_of(pipe).state_dict().items()}


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative distance of two pictures."""
    return float((one - other).norm() / other.norm())


def test_unfolding_restores_every_bit_and_every_family(pipe: Any, picture: Picture) -> None:
    before, plain = _weights(pipe), picture(pipe)
    maps = _maps(pipe)
    fold(pipe, "no-pistol", maps)
    assert tuple(folded(pipe)) == ("no-pistol",)
    assert not torch.equal(picture(pipe), plain)
    unfold(pipe, "no-pistol")
    assert not folded(pipe)
    assert all(torch.equal(value, before[name]) for name, value in _weights(pipe).items())
    assert torch.equal(picture(pipe), plain)


def test_run_time_map_draws_what_the_folded_map_draws(pipe: Any, picture: Picture) -> None:
    maps, plain = _maps(pipe), picture(pipe)
    with applied(pipe, maps):
        at_run_time = picture(pipe)
    assert torch.equal(picture(pipe), plain), "the block leaves nothing behind"
    fold(pipe, "edit", maps)
    into_weights = picture(pipe)
    unfold(pipe, "edit")
    assert _apart(at_run_time, into_weights) < 1e-3
    assert _apart(at_run_time, plain) > 1e-2


def test_every_site_of_the_family_is_edited_and_biases_are_left_alone(pipe: Any) -> None:
    maps = _maps(pipe)
    assert set(maps) == set(ports(pipe))
    before = _weights(pipe)
    fold(pipe, "edit", maps)
    after = _weights(pipe)
    unfold(pipe, "edit")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{port.path}.weight" for some in ports(pipe).values() for port in some}


def test_erased_and_anchor_read_alike_after_the_edit(pipe: Any) -> None:
    encoder = PipelineEncoder(pipe, sequence_length=8)
    found = encoder.encode(["a pistol", "a toy"])
    maps = _maps(pipe)
    for site, encoded in found.items():
        here, there = encoded.pairs((0, encoded.spans[0]), (1, encoded.spans[1]), "last")
        left = (maps[site].apply(here) - there).norm() / (here - there).norm()
        assert float(left) < 0.6, site


def test_edits_leave_in_any_order(families: dict[str, Any]) -> None:
    pipe = families["sd"]
    before = _weights(pipe)
    first, second = _maps(pipe, "pistol"), _maps(pipe, "bomb")
    fold(pipe, "first", first)
    only_first = _weights(pipe)
    fold(pipe, "second", second)
    unfold(pipe, "first")
    unfold(pipe, "second")
    assert all(torch.equal(value, before[name]) for name, value in _weights(pipe).items())
    fold(pipe, "second", second)
    fold(pipe, "first", first)
    unfold(pipe, "second")
    assert all(torch.equal(value, only_first[name]) for name, value in _weights(pipe).items())
    unfold(pipe, "first")


def test_two_tenants_share_one_model(families: dict[str, Any], picture: Picture) -> None:
    pipe = families["sd"]
    ours, theirs = _maps(pipe, "pistol"), _maps(pipe, "bomb")
    with applied(pipe, ours):
        first = picture(pipe)
    with applied(pipe, theirs):
        second = picture(pipe)
    with applied(pipe, ours):
        assert torch.equal(picture(pipe), first)
    assert not torch.equal(first, second)


def test_hooks_leave_when_the_block_fails(families: dict[str, Any], picture: Picture) -> None:
    pipe = families["sd"]
    plain = picture(pipe)
    with pytest.raises(ZeroDivisionError), applied(pipe, _maps(pipe)):
        _ = 1 / 0
    assert torch.equal(picture(pipe), plain)


def test_conditional_edit_touches_only_prompts_with_the_concept(
    families: dict[str, Any], picture: Picture
) -> None:
    pipe = families["sd"]
    solver = ConditionalEditing(base=SOLVER)
    problems = assemble(
        PipelineEncoder(pipe), erase(["pistol"]), reading=solver.reading, kept=Kept(texts=("cat",))
    )
    gated = {site: solver.solve(problem) for site, problem in problems.items()}
    quiet, loud = picture(pipe, "a cat"), picture(pipe, "a pistol")
    with applied(pipe, gated):
        assert torch.equal(picture(pipe, "a cat"), quiet)
        assert not torch.equal(picture(pipe, "a pistol"), loud)


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_lora_file_draws_what_the_folded_map_draws(
    layout: Any, families: dict[str, Any], picture: Picture, tmp_path: Path
) -> None:
    pipe = families["sd"]
    maps, plain = _maps(pipe), picture(pipe)
    with applied(pipe, maps):
        expected = picture(pipe)
    export(pipe, maps, tmp_path / "edit.safetensors", layout)
    pipe.load_lora_weights(tmp_path, weight_name="edit.safetensors")
    loaded = picture(pipe)
    pipe.unload_lora_weights()
    assert _apart(loaded, expected) < 1e-3
    assert _apart(loaded, plain) > 1e-2
    assert torch.equal(picture(pipe), plain)


@pytest.mark.parametrize("family", ["xl", "sd3", "flux"])
def test_lora_file_of_the_other_families(
    family: str, families: dict[str, Any], picture: Picture, tmp_path: Path
) -> None:
    pipe = families[family]
    maps, plain = _maps(pipe), picture(pipe)
    with applied(pipe, maps):
        expected = picture(pipe)
    export(pipe, maps, tmp_path / "edit.safetensors")
    pipe.load_lora_weights(tmp_path, weight_name="edit.safetensors")
    loaded = picture(pipe)
    pipe.unload_lora_weights()
    assert _apart(loaded, expected) < 1e-3
    assert _apart(loaded, plain) > 1e-2
    assert torch.equal(picture(pipe), plain)


def test_what_cannot_be_written_as_a_lora_says_so(families: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="kohya"):
        export(families["sd3"], _maps(families["sd3"]), tmp_path / "x", "kohya")
    with pytest.raises(BadInput, match="changes nothing"):
        export(families["sd"], {"context": ContextMap.identity(16)}, tmp_path / "x")
    with pytest.raises(BadInput, match="LoRA layout"):
        export(families["sd"], _maps(families["sd"]), tmp_path / "x", "a1111")
    assert not list(tmp_path.iterdir())


def test_wrong_width_unknown_site_and_wrapped_layers_write_nothing(
    families: dict[str, Any], tmp_path: Path
) -> None:
    pipe = families["sd"]
    before = _weights(pipe)
    with pytest.raises(BadInput, match="another text encoder"):
        fold(pipe, "x", {"context": ContextMap.identity(17)})
    with pytest.raises(BadInput, match="another family"):
        fold(pipe, "x", {"pooled": ContextMap.identity(16)})
    with pytest.raises(BadInput, match="No edit named"):
        unfold(pipe, "x")
    export(pipe, _maps(pipe), tmp_path / "edit.safetensors")
    pipe.load_lora_weights(tmp_path, weight_name="edit.safetensors")
    with pytest.raises(BadInput, match="Unload LoRA"):
        fold(pipe, "x", _maps(pipe))
    pipe.unload_lora_weights()
    assert not folded(pipe)
    assert all(torch.equal(value, before[name]) for name, value in _weights(pipe).items())


def test_word_rows_of_every_encoder(families: dict[str, Any]) -> None:
    sd = PipelineEncoder(families["sd"]).encode(["cat", ""])["context"]
    assert [(s.first, s.last, s.end) for (s,) in sd.spans] == [(1, 3, 4), (1, 0, 1)]
    flux = PipelineEncoder(families["flux"], sequence_length=8).encode(["a cat", ""])["context"]
    assert [(s.first, s.last, s.end, s.length) for (s,) in flux.spans] == [
        (0, 1, 2, 8),
        (0, -1, 0, 8),
    ]
    both = PipelineEncoder(families["sd3"], sequence_length=8).encode(["a cat"])["context"]
    clip, t5 = both.spans[0]
    assert (clip.start, t5.start, t5.last) == (0, 16, 1)
    assert both.contexts.shape == (1, 24, 32)
    xl = PipelineEncoder(families["xl"]).encode(["a cat"])
    assert xl["context"].contexts.shape == (1, 16, 40)
    assert xl["pooled"].contexts.shape == (1, 1, 24)


def test_batches_do_not_change_contexts(families: dict[str, Any]) -> None:
    texts = ["a cat", "", "pistol", "a red dog"]
    one = PipelineEncoder(families["sd"], batch=1).encode(texts)["context"].contexts
    torch.testing.assert_close(
        one, PipelineEncoder(families["sd"]).encode(texts)["context"].contexts
    )


def test_fingerprint_is_of_the_text_encoder_and_survives_half_precision(
    families: dict[str, Any],
) -> None:
    pipe = families["sd"]
    before = fingerprint(pipe)
    assert before.startswith("sha256:")
    assert before != fingerprint(families["xl"])
    weight = (
        pipe.text_encoder.get_parameter("text_model.final_layer_norm.weight")
        if hasattr(pipe.text_encoder, "text_model")
        else pipe.text_encoder.get_parameter("final_layer_norm.weight")
    )
    with torch.no_grad():
        weight[0] += 0.5
        assert fingerprint(pipe) != before
        weight[0] -= 0.5
    assert fingerprint(pipe) == before


def test_gram_is_the_sum_over_layers(families: dict[str, Any]) -> None:
    some = ports(families["sd"])["context"]
    expected = sum(port.weight.double().T @ port.weight.double() for port in some)
    torch.testing.assert_close(gram(some), expected, rtol=1e-5, atol=1e-5)  # float32 products


def test_models_without_text_are_refused() -> None:
    class Blank:
        unet = torch.nn.Linear(2, 2)

    with pytest.raises(BadInput, match="cannot be edited"):
        ports(Blank())
    with pytest.raises(BadInput, match="neither"):
        ports(object())
    with pytest.raises(BadInput, match="cannot be edited yet"):
        PipelineEncoder(Blank())
