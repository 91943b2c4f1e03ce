from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tadasu as td
from tadasu.backends.diffusers.context.layer import add, added, layers_of, remove
from tadasu.backends.diffusers.context.text import HiddenEncoder, PipelineEncoder, fingerprint
from tadasu.editing.layer import LayerEditing
from tadasu.editing.layer_map import LayerMap
from tadasu.editing.make import Options
from tadasu.editing.problem import Reading
from tadasu.errors import BadInput

Picture = Callable[..., torch.Tensor]
SOLVER = LayerEditing(reading=Reading(hidden=True, tokens="last", templates=("{}", "a {}")))


def _edit(pipe: Any, *concepts: str, name: str = "gone") -> Any:
    options = Options(name=name, solver=SOLVER, preserve=("cat", "dog", "red toy"))
    return td.editing.erase(pipe, concepts or ["pistol"], options=options)


def _weights(pipe: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in pipe.text_encoder.state_dict().items()}


def test_hidden_rows_become_the_context_when_they_are_normalised(families: dict[str, Any]) -> None:
    pipe = families["sd"]
    inner = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
    hidden = HiddenEncoder(pipe).encode(["a pistol", ""])["layer"]
    context = PipelineEncoder(pipe).encode(["a pistol", ""])["context"]
    with torch.no_grad():
        torch.testing.assert_close(inner.final_layer_norm(hidden.contexts), context.contexts)
    assert hidden.spans == context.spans


def test_the_added_layer_computes_the_map(families: dict[str, Any]) -> None:
    pipe = families["sd"]
    edit, texts = _edit(pipe), ["a pistol", "pistol", "a cat"]
    before = HiddenEncoder(pipe).encode(texts)["layer"].contexts
    expected = edit.maps["layer"].apply(before)
    with edit.applied(pipe):
        after = HiddenEncoder(pipe).encode(texts)["layer"].contexts
    torch.testing.assert_close(after, expected, atol=0.05, rtol=0.02)
    assert float((expected - before)[0].norm()) > 1, "the concept moves"
    torch.testing.assert_close(after[2, :4], before[2, :4], atol=1e-3, rtol=0)


def test_run_time_and_folded_draw_the_same_and_nothing_is_left(
    families: dict[str, Any], picture: Picture
) -> None:
    pipe = families["sd"]
    plain, weights, known = picture(pipe), _weights(pipe), fingerprint(pipe)
    edit = _edit(pipe)
    with edit.applied(pipe):
        at_run_time = picture(pipe)
    assert torch.equal(picture(pipe), plain)
    edit.fold(pipe)
    assert added(pipe) == ("gone",)
    assert fingerprint(pipe) == known, "an edit in memory does not make it another encoder"
    assert torch.equal(picture(pipe), at_run_time)
    assert not torch.equal(at_run_time, plain)
    edit.unfold(pipe)
    assert added(pipe) == ()
    after = _weights(pipe)
    assert after.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in after.items())
    assert torch.equal(picture(pipe), plain)


def test_a_saved_model_keeps_the_edit_for_whoever_loads_it(
    families: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import CLIPTextModel

    pipe = families["sd"]
    edit = _edit(pipe)
    edit.fold(pipe)
    expected = PipelineEncoder(pipe).encode(["a pistol"])["context"].contexts
    pipe.text_encoder.save_pretrained(tmp_path)
    edit.unfold(pipe)
    original, pipe.text_encoder = pipe.text_encoder, CLIPTextModel.from_pretrained(tmp_path).eval()
    found = PipelineEncoder(pipe).encode(["a pistol"])["context"].contexts
    pipe.text_encoder = original
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_more_neurons_than_a_layer_holds_take_several_layers(families: dict[str, Any]) -> None:
    pipe = families["sd"]
    before = len(layers_of(pipe))
    edit = _edit(pipe, *(f"p{letter}" for letter in "abcdefghij"))
    neurons = 2 * edit.maps["layer"].gates
    edit.fold(pipe)
    assert len(layers_of(pipe)) == before + -(-neurons // 32)
    assert pipe.text_encoder.config.num_hidden_layers == len(layers_of(pipe))
    edit.unfold(pipe)
    assert pipe.text_encoder.config.num_hidden_layers == before


def test_linear_and_layer_edits_stack_and_leave_in_any_order(
    families: dict[str, Any], picture: Picture
) -> None:
    pipe = families["sd"]
    plain, weights = picture(pipe), _weights(pipe)
    one = _edit(pipe)
    named = Options(name="two")
    two = td.editing.erase(pipe, ["bomb"], anchor="toy", preserve=["cat"], options=named)
    one.fold(pipe)
    two.fold(pipe)
    one.unfold(pipe)
    with_two = picture(pipe)
    two.unfold(pipe)
    assert torch.equal(picture(pipe), plain)
    assert not torch.equal(with_two, plain)
    assert all(torch.equal(value, weights[name]) for name, value in _weights(pipe).items())


def test_file_round_trip(families: dict[str, Any], tmp_path: Path) -> None:
    edit = _edit(families["sd"])
    edit.save(tmp_path / "e.safetensors")
    again = td.editing.load(tmp_path / "e.safetensors")
    assert isinstance(again.maps["layer"], LayerMap)
    assert not again.conditional
    rows = HiddenEncoder(families["sd"]).encode(["a pistol"])["layer"].contexts
    assert torch.equal(again.maps["layer"].apply(rows), edit.maps["layer"].apply(rows))
    assert again.check().keys() == {"layer"}


def test_bad_input_changes_nothing(families: dict[str, Any], tmp_path: Path) -> None:
    pipe = families["sd"]
    edit, before = _edit(pipe), len(layers_of(pipe))
    for family in ("xl", "sd3", "flux"):
        with pytest.raises(BadInput, match="one CLIP text encoder"):
            _edit(families[family])
    with pytest.raises(BadInput, match="LoRA"):
        edit.export(pipe, tmp_path / "x.safetensors")
    wide = LayerMap(**{
        **vars(edit.maps["layer"]),
        "filters": torch.zeros(17, edit.maps["layer"].gates).double(),
        "moves": torch.zeros(edit.maps["layer"].gates, 17).double(),
    })  # fmt: skip
    with pytest.raises(BadInput, match="another text encoder"):
        add(pipe, "x", wide)
    with pytest.raises(BadInput, match="No edit named"):
        remove(pipe, "x")
    edit.fold(pipe)
    with pytest.raises(BadInput, match="already folded"):
        edit.fold(pipe)
    edit.unfold(pipe)
    assert len(layers_of(pipe)) == before
