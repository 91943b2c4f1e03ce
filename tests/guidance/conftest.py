"""Made-up predictions for rules; every number is chosen by the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from tadasu.guidance.rule import Predictions, Step

Make = Callable[..., Predictions]


def row(values: Sequence[float]) -> Tensor:
    """One image with one channel."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, -1)


def make_predictions(
    unconditional: Sequence[float],
    prompt: Sequence[float],
    *concepts: Sequence[float],
    weights: Sequence[float] | None = None,
    latents: Sequence[float] | None = None,
) -> Predictions:
    """Predictions for one image, as lists of numbers."""
    given = list(weights if weights is not None else [1.0] * len(concepts))
    return Predictions(
        unconditional=row(unconditional),
        prompt=row(prompt),
        concepts=torch.stack([row(concept) for concept in concepts]),
        evaluated=torch.ones(len(concepts), 1, dtype=torch.bool),
        weights=torch.tensor(given)[:, None],
        latents=row(latents if latents is not None else [0.0] * len(prompt)),
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def predictions() -> Make:
    """The function that makes predictions."""
    return make_predictions


@pytest.fixture
def at() -> Callable[..., Step]:
    """The function that makes steps; guidance scale 2 unless another is given."""

    def step(index: int = 0, count: int = 10, scale: float = 2.0, signal: float = 0.6) -> Step:
        return Step(
            index=index,
            count=count,
            guidance_scale=scale,
            signal=signal,
            noise=(1 - signal**2) ** 0.5,
        )

    return step
