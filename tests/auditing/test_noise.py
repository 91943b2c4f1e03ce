"""Random numbers are told from a trained change by what stands out of them."""

from __future__ import annotations

import math

import pytest
import torch

from tadasu.auditing.merge import Merged
from tadasu.auditing.noise import noise, standing_out


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BASE = {"unet.a.weight": random(64, 48), "unet.b.weight": random(32, 16, 3, 3, seed=1)}


def share(**changes: torch.Tensor) -> float:
    weights = {
        f"unet.{name}.weight": BASE[f"unet.{name}.weight"] + changes[name] for name in changes
    }
    return noise(Merged(weights=weights, unmatched=()), BASE.get)


def test_a_change_of_random_numbers_is_noise() -> None:
    assert share(a=0.1 * random(64, 48, seed=5), b=random(32, 16, 3, 3, seed=6)) == 1.0


def test_a_change_with_directions_is_not() -> None:
    trained = random(64, 4, seed=7) @ random(4, 48, seed=8)
    assert share(a=trained) == 0.0
    assert share(a=trained + 0.3 * random(64, 48, seed=9)) == 0.0


def test_noise_is_a_share_of_the_whole_change() -> None:
    trained = random(64, 4, seed=7) @ random(4, 48, seed=8)
    beside = random(32, 16, 3, 3, seed=6)
    wanted = float(beside.square().sum() / (beside.square().sum() + trained.square().sum()))
    assert share(a=trained, b=beside) == pytest.approx(wanted, rel=1e-4)


def test_what_cannot_be_told_counts_as_nothing() -> None:
    assert share() == 0.0
    assert share(a=torch.zeros(64, 48)) == 0.0
    assert share(a=torch.full((64, 48), math.nan)) == 0.0
    assert standing_out(torch.zeros(20, 20)) == 0.0
