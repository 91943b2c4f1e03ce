"""What a user writes: one name, ``td.editing``, from words to pictures and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tadasu as td
from tadasu.backends.diffusers.context.text import PipelineEncoder
from tadasu.editing.check import Check
from tadasu.editing.models import PRIORS, model_of
from tadasu.editing.prior import Prior, file_name, found_prior
from tadasu.errors import BadInput

Picture = Callable[..., torch.Tensor]
SHORT = td.editing.Options(sequence_length=8)


def _edit(pipe: Any, *concepts: str, name: str = "edit", **more: Any) -> Any:
    return td.editing.erase(
        pipe,
        concepts or ["pistol"],
        anchor="toy",
        preserve=["cat"],
        options=replace(SHORT, name=name, **more),
    )


def test_from_words_to_pictures_and_back(pipe: Any, picture: Picture, tmp_path: Path) -> None:
    plain = picture(pipe)
    edit = _edit(pipe)
    assert all(isinstance(found, Check) for found in edit.check().values())
    again = edit.check(pipe, ["dog"])
    for site, found in edit.check().items():
        assert again[site].residual == pytest.approx(found.residual, abs=1e-6)
        assert {text for text, _ in again[site].collateral} == {"cat", "dog"}
    edit.save(tmp_path / "edit.safetensors")
    loaded = td.editing.load(tmp_path / "edit.safetensors")
    assert loaded.check() == edit.check()
    with loaded.applied(pipe):
        at_run_time = picture(pipe)
    assert torch.equal(picture(pipe), plain), "off is off"
    loaded.fold(pipe)
    assert not torch.equal(picture(pipe), plain)
    assert float((picture(pipe) - at_run_time).norm() / plain.norm()) < 1e-3
    loaded.unfold(pipe)
    assert torch.equal(picture(pipe), plain)


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_export_gives_the_same_pictures(
    layout: str, families: dict[str, Any], picture: Picture, tmp_path: Path
) -> None:
    pipe = families["sd"]
    edit = _edit(pipe)
    with edit.applied(pipe):
        expected = picture(pipe)
    edit.export(pipe, tmp_path / "lora.safetensors", format=layout)
    pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    loaded = picture(pipe)
    pipe.unload_lora_weights()
    assert float((loaded - expected).norm() / expected.norm()) < 1e-3


def test_preview_draws_the_same_seeds(families: dict[str, Any], tmp_path: Path) -> None:
    pipe = families["sd"]
    shown = _edit(pipe).preview(
        pipe, seeds=(1, 2), steps=1, see=lambda pictures: [{"pistol"}] * len(pictures)
    )
    assert [(p.prompt, p.seed) for p in shown.pairs] == [
        ("pistol", 1), ("pistol", 2), ("cat", 1), ("cat", 2)
    ]  # fmt: skip
    assert shown.pairs[0].distance > 0
    assert shown.rates["edited"][1].count == 2
    shown.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 0


def test_several_edits_at_once_and_the_limit_of_a_stack(
    families: dict[str, Any], picture: Picture
) -> None:
    pipe = families["sd"]
    plain = picture(pipe)
    one = _edit(pipe, "pistol", name="one")
    back = td.editing.replace(
        pipe, {"toy": "pistol"}, preserve=["cat"], options=replace(SHORT, name="back")
    )
    (value,) = td.editing.interference([one, back]).values()
    assert value > 0
    with td.editing.applied(pipe, one, back, limit=1.01 * value):
        both = picture(pipe)
    assert not torch.equal(both, plain)
    with (
        pytest.raises(BadInput, match="interfere"),
        td.editing.applied(pipe, one, back, limit=0.99 * value),
    ):
        pass
    one.fold(pipe)
    with pytest.raises(BadInput, match="interfere"):
        back.fold(pipe, limit=0.99 * value)
    one.unfold(pipe)
    assert torch.equal(picture(pipe), plain)


def test_a_conditional_edit_moves_towards_its_own_anchor_and_cannot_be_folded(
    families: dict[str, Any],
) -> None:
    pipe = families["sd"]
    encoder = PipelineEncoder(pipe)

    def word(text: str) -> torch.Tensor:
        found = encoder.encode([text])["context"]
        return found.rows(0, found.spans[0], "last")

    moved = {}
    for anchor in ("toy", "dog"):
        edit = td.editing.replace(
            pipe,
            {"pistol": anchor},
            preserve=["cat", "red"],
            options=td.editing.Options(solver="conditional", templates=("{}",)),
        )
        whole = encoder.encode(["pistol"])["context"]
        context = edit.maps["context"].apply(whole.contexts)
        moved[anchor] = context[0, whole.spans[0][0].last][None].double()
        before = (word("pistol") - word(anchor)).norm()
        assert float((moved[anchor] - word(anchor)).norm() / before) < 0.5
    assert not torch.allclose(moved["toy"], moved["dog"])
    with pytest.raises(BadInput, match="cannot be folded"):
        edit.fold(pipe)


def test_another_text_encoder_is_refused_unless_forced(
    families: dict[str, Any], picture: Picture, tmp_path: Path
) -> None:
    pipe = families["sd"]
    plain, edit = picture(pipe), _edit(pipe)
    other = replace(edit, fingerprint="sha256:other")
    acts: tuple[Callable[[], Any], ...] = (
        lambda: other.fold(pipe),
        lambda: other.applied(pipe).__enter__(),
        lambda: other.export(pipe, tmp_path / "x.safetensors"),
        lambda: other.check(pipe),
        lambda: other.preview(pipe),
    )
    for act in acts:
        with pytest.raises(BadInput, match="made for text encoder"):
            act()
    assert not list(tmp_path.iterdir())
    assert torch.equal(picture(pipe), plain)
    with other.applied(pipe, force=True):
        assert not torch.equal(picture(pipe), plain)


def test_a_prior_is_found_by_the_encoder_it_was_measured_on(
    families: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = families["sd"]
    encoder = PipelineEncoder(pipe)
    prior = Prior.measure(encoder, ["a cat", "a red dog", "toy"])
    assert found_prior(encoder.fingerprint) is None
    assert _edit(pipe).recipe["prior"] is None
    monkeypatch.setattr("tadasu.editing.prior.PRIORS", [*PRIORS, tmp_path])
    prior.save(tmp_path / file_name(encoder.fingerprint))
    assert _edit(pipe).recipe["prior"] == {"captions": 3}
    assert found_prior("sha256:" + "0" * 64) is None
    given = td.editing.erase(pipe, ["pistol"], anchor="toy", preserve=prior, options=SHORT)
    assert given.recipe["prior"] == {"captions": 3}


def test_what_is_no_pipeline_says_so() -> None:
    with pytest.raises(BadInput, match="cannot be edited"):
        model_of(object())


def test_names_the_tokenizer_cannot_read_are_left_out_and_never_edited(
    families: dict[str, Any],
) -> None:
    pipe = families["flux"]
    known = td.editing.Target(concept="gun", texts=("pistol", "銃"), anchor="toy")
    both = td.editing.solve(pipe, [known], replace(SHORT, preserve=("cat", "猫")))
    alone = td.editing.solve(
        pipe, [replace(known, texts=("pistol",))], replace(SHORT, preserve=("cat",))
    )
    context = (
        PipelineEncoder(pipe, sequence_length=8).encode(["銃", "a pistol"])["context"].contexts
    )
    torch.testing.assert_close(
        both.maps["context"].apply(context), alone.maps["context"].apply(context)
    )
    with pytest.raises(BadInput, match="cannot read any name of 'gun'"):
        td.editing.solve(pipe, [replace(known, texts=("銃",))], SHORT)


def test_the_solver_is_chosen_and_the_recipe_says_why(families: dict[str, Any]) -> None:
    sd, sd3 = families["sd"], families["sd3"]
    many = [f"x{letter}" for letter in "abcdefgh"]
    few = _edit(sd)
    assert (few.recipe["choice"]["solver"], few.recipe["solver"]) == (
        "uce",
        "UnifiedConceptEditing",
    )
    assert _edit(sd, *many).recipe["choice"]["solver"] == "layer"
    assert "layer" in _edit(sd, *many).maps
    assert _edit(sd, run_time=True).conditional
    assert _edit(sd3, *many).recipe["choice"]["solver"] == "uce"
    assert "attach" in _edit(sd3, *many).recipe["choice"]["warning"]
    assert _edit(sd, solver="uce").recipe["choice"] is None
    assert _edit(sd, kind="idea").recipe["reading"]["tokens"] == "all"
    assert _edit(sd, kind="idea", tokens="eot").recipe["reading"]["tokens"] == "eot"
    with pytest.raises(BadInput, match="kind of concept"):
        _edit(sd, kind="mood")


def test_projections_are_only_read_by_who_needs_them(
    families: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tadasu.backends.diffusers.context.model.gram", lambda some: pytest.fail("was read")
    )
    pipe = families["sd"]
    td.editing.erase(pipe, ["pistol"], options=SHORT)
    with pytest.raises(pytest.fail.Exception, match="was read"):
        td.editing.erase(pipe, ["pistol"], options=replace(SHORT, solver="rece"))
