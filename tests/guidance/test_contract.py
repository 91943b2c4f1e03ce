"""What every file in the folder must keep: the contract of a rule."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import tadasu.guidance
from tadasu.errors import BadInput, UnknownName
from tadasu.guidance.registry import find, names, parse
from tadasu.guidance.rule import Predictions, Rule, Start, Step

ROOT = Path(__file__).parents[2]
COUNT = 8


def concepts_of(rule: Rule[Any]) -> int:
    return {"merged": 1, "each": 3, "nothing": 2, "attention": 1, "context": 2}[rule.needs]


def run(rule: Rule[Any], weights: torch.Tensor, seed: int = 0, images: int = 2) -> torch.Tensor:
    """A rule over a short made-up run; one guided prediction per step."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*lead: int) -> torch.Tensor:
        return torch.randn(*lead, images, 4, 6, 6, generator=generator)

    base = noise()
    likeness = torch.full_like(weights, 0.7)
    state = rule.start(Start(count=COUNT, weights=weights, latents=base, likeness=likeness))
    guided = []
    for index in range(COUNT):
        signal = (index + 1) / (COUNT + 1)
        step = Step(
            index=index,
            count=COUNT,
            guidance_scale=5.0,
            signal=signal,
            noise=(1 - signal**2) ** 0.5,
        )
        unconditional = base + 0.1 * noise()
        wanted = rule.wants(step, state, weights) & (weights > 0)
        concepts = unconditional + 0.1 * noise(len(weights))
        concepts = torch.where(wanted[..., None, None, None], concepts, unconditional)
        predictions = Predictions(
            unconditional=unconditional,
            prompt=unconditional + 0.1 * noise(),
            concepts=concepts,
            evaluated=wanted,
            weights=weights,
            latents=base + 0.2 * noise(),
        )
        result, state = rule.step(predictions, step, state)
        guided.append(result)
    return torch.stack(guided)


def plain(weights: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return run(find("sld")(), torch.zeros_like(weights), seed)


@pytest.mark.parametrize("name", names())
class TestEveryRule:
    """Every file found in the folder."""

    def test_has_a_page_and_a_test(self, name: str) -> None:
        assert (ROOT / "docs" / "guidance" / f"{name}.md").is_file()
        assert (ROOT / "tests" / "guidance" / f"test_{name}.py").is_file()

    def test_is_a_frozen_dataclass_with_plain_parameters(self, name: str) -> None:
        rule = find(name)()
        assert rule.name == name
        assert all(isinstance(v, int | float | bool | str) for v in rule.parameters().values())
        assert all(field.name in rule.parameters() for field in dataclasses.fields(rule))
        for field in dataclasses.fields(rule):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(rule, field.name, 1)
            assert field.name in (type(rule).__doc__ or "")

    def test_presets_make_rules(self, name: str) -> None:
        for preset in find(name).presets:
            assert isinstance(parse(f"{name}:{preset}"), find(name))
        with pytest.raises(UnknownName):
            find(name).preset("no such preset")

    def test_refuses_parameters_that_are_not_finite(self, name: str) -> None:
        rule = find(name)()
        for key, value in rule.parameters().items():
            if isinstance(value, float):
                for bad in ("nan", "inf"):
                    with pytest.raises(BadInput, match=key):
                        parse(f"{name}:{key}={bad}")

    def test_the_class_is_exported(self, name: str) -> None:
        assert getattr(tadasu.guidance, find(name).__name__) is find(name)

    def test_is_finite_and_deterministic_and_keeps_nothing(self, name: str) -> None:
        rule = find(name)()
        weights = torch.ones(concepts_of(rule), 2)
        first, other, again = run(rule, weights), run(rule, weights, 1), run(rule, weights)
        assert torch.isfinite(first).all()
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_weight_zero_is_plain_guidance(self, name: str) -> None:
        rule = find(name)()
        weights = torch.zeros(concepts_of(rule), 2)
        if rule.quality:  # it repairs every image, whatever weighs there
            assert torch.equal(run(rule, weights), run(rule, torch.ones_like(weights)))
            return
        torch.testing.assert_close(run(rule, weights), plain(weights), rtol=1e-5, atol=1e-5)

    def test_images_do_not_touch_each_other(self, name: str) -> None:
        rule = find(name)()
        weights = torch.ones(concepts_of(rule), 2)
        half = weights.clone()
        half[:, 1] = 0
        both, first = run(rule, weights), run(rule, half)
        torch.testing.assert_close(both[:, 0], first[:, 0])
