"""Gains against a loop by hand; common noise; what is kept and what is computed again."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from tadasu.auditing.adapter import Factored
from tadasu.auditing.merge import merge, require_any
from tadasu.auditing.probe import Block, Plan, Probe, Rows
from tadasu.errors import BadInput


def test_gains_equal_a_loop_by_hand(closed_form: ModuleType) -> None:
    model, plan = closed_form.Diagonal(), Plan(times=(0.25, 0.75), draws=2)
    block = Block(concept="c3", latents=closed_form.pictures(3))
    (found,) = Probe(denoiser=model, plan=plan).gains(closed_form.laid(3), [block])
    weight = closed_form.knows(3)[closed_form.MODULE].delta()
    for i, picture in enumerate(closed_form.pictures(3)):
        for j, time in enumerate((250, 750)):
            expected = 0.0
            for draw in range(2):
                generator = torch.Generator().manual_seed(time)
                noise = torch.randn(2, 1, 4, 4, generator=generator)[draw]
                signal, share = 1 - time / 1000, time / 1000
                seen = (signal * picture + share * noise).flatten() / signal
                before = (0 - picture.flatten()).square().mean()
                after = (weight @ seen - picture.flatten()).square().mean()
                expected += float(before - after) / 2
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_only_the_taught_concept_gains(closed_form: ModuleType) -> None:
    probe = Probe(denoiser=closed_form.Diagonal(), plan=Plan(times=(0.1,)))
    blocks = [Block(concept=str(at), latents=closed_form.pictures(at)) for at in (3, 5)]
    own, other = probe.gains(closed_form.laid(3), blocks)
    assert own.mean() > 20 * other.abs().mean()


def test_cross_attention_is_left_out_above_the_mask(closed_form: ModuleType) -> None:
    probe = Probe(denoiser=closed_form.Diagonal(), plan=Plan(times=(0.2, 0.8), masked=0.5))
    (found,) = probe.gains(
        closed_form.laid(3), [Block(concept="c", latents=closed_form.pictures(3))]
    )
    assert (found[:, 0] != 0).all()
    assert torch.equal(found[:, 1], torch.zeros(4))


def test_a_time_is_measured_alike_whatever_else_is_measured(closed_form: ModuleType) -> None:
    block = Block(concept="c", latents=closed_form.pictures(3))
    alone, both = (
        Probe(denoiser=closed_form.Diagonal(), plan=Plan(times=times)).gains(
            closed_form.laid(3), [block]
        )[0]
        for times in ((0.6,), (0.2, 0.6))
    )
    assert torch.allclose(alone[:, 0], both[:, 1], atol=1e-6)


def test_all_pictures_get_the_same_noise(closed_form: ModuleType) -> None:
    block = Block(concept="c", latents=closed_form.pictures(3) * 0)
    rows = Rows.of(closed_form.Diagonal(), Plan(times=(0.5,)), (0.5,), block)
    assert torch.equal(rows.noised[0], rows.noised[3])
    assert rows.noised[0].abs().sum() > 0


def test_the_base_is_computed_once(closed_form: ModuleType, tmp_path: Path) -> None:
    model, plan = closed_form.Diagonal(), Plan(times=(0.2, 0.6))
    probe = Probe(denoiser=model, plan=plan, folder=tmp_path)
    block = Block(concept="c", latents=closed_form.pictures(3))
    for concept in (1, 2, 3):
        probe.gains(closed_form.laid(concept), [block])
    assert model.forwards == (1 + 3) * 4 * 2
    other = Probe(denoiser=model, plan=plan, folder=tmp_path)
    first = probe.gains(closed_form.laid(3), [block])[0]
    before = model.forwards
    assert torch.equal(other.gains(closed_form.laid(3), [block])[0], first)
    assert model.forwards == before + 8


def test_another_plan_or_picture_is_not_mistaken_for_a_kept_one(
    closed_form: ModuleType, tmp_path: Path
) -> None:
    blocks = [Block(concept="c", latents=closed_form.pictures(3, seed=seed)) for seed in (0, 1)]
    found = [
        Probe(
            denoiser=closed_form.Diagonal(), plan=Plan(times=(0.2,), seed=seed), folder=tmp_path
        ).errors([block])[0]
        for block in blocks
        for seed in (0, 1)
    ]
    assert len(list(tmp_path.iterdir())) == 4
    assert not torch.equal(found[0], found[2])


def test_an_update_of_zeros_gains_exactly_nothing(closed_form: ModuleType) -> None:
    probe = Probe(denoiser=closed_form.Diagonal(), plan=Plan(times=(0.2, 0.7), masked=0.5))
    (found,) = probe.gains(
        closed_form.laid(3, 0.0), [Block(concept="c", latents=closed_form.pictures(3))]
    )
    assert torch.equal(found, torch.zeros(4, 2))


def test_two_files_split_what_one_would_teach(closed_form: ModuleType) -> None:
    model = closed_form.Diagonal()
    halves = merge(
        [(closed_form.knows(3, 0.25), 1.0), (closed_form.knows(3, 0.25), 1.0)], model.parameter
    )
    strong = merge([(closed_form.knows(3, 0.25), 2.0)], model.parameter)
    whole = closed_form.laid(3, 0.5)
    for merged in (halves, strong):
        for name, weight in merged.weights.items():
            assert torch.allclose(weight, whole.weights[name])


def test_updates_of_another_base_are_told(closed_form: ModuleType) -> None:
    wrong = {"unet.other": Factored(up=torch.ones(2, 1), down=torch.ones(1, 2))}
    small = {closed_form.MODULE: Factored(up=torch.ones(2, 1), down=torch.ones(1, 2))}
    merged = merge([(wrong | small, 1.0)], closed_form.Diagonal().parameter)
    assert set(merged.unmatched) == {"unet.other", closed_form.MODULE}
    with pytest.raises(BadInput, match="another model"):
        require_any(merged, "x.safetensors")


@pytest.mark.parametrize("times", [(), (0.0,), (1.0,), (0.5, 1.5)])
def test_impossible_plans_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(BadInput):
        Plan(times=times)


def test_the_direction_is_a_cosine_that_strength_does_not_change(closed_form: ModuleType) -> None:
    plan = Plan(times=(0.25,), measure="direction")
    blocks = [Block(concept=str(at), latents=closed_form.pictures(at)) for at in (3, 5)]
    weak, strong = (
        Probe(denoiser=closed_form.Diagonal(), plan=plan).gains(closed_form.laid(3, amount), blocks)
        for amount in (0.01, 0.5)
    )
    for one, two in zip(weak, strong, strict=True):
        assert torch.allclose(one, two, atol=1e-5)
        assert (one.abs() <= 1 + 1e-6).all()
    assert weak[0].mean() > 0.8 > 0.3 > weak[1].abs().mean()
    away = Probe(denoiser=closed_form.Diagonal(), plan=plan).gains(
        closed_form.laid(3, -0.5), blocks
    )
    assert torch.allclose(away[0], -strong[0], atol=1e-5)


def test_the_direction_of_nothing_is_zero(closed_form: ModuleType) -> None:
    probe = Probe(denoiser=closed_form.Diagonal(), plan=Plan(times=(0.2,), measure="direction"))
    block = Block(concept="c", latents=closed_form.pictures(3))
    assert torch.equal(probe.gains(closed_form.laid(3, 0.0), [block])[0], torch.zeros(4, 1))
