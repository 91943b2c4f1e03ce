"""A denoiser whose every number can be worked out by hand: it predicts a weighted template.

Its one matrix ``unet.attn2.weight`` holds per concept (row) how much of the noise it predicts on
pictures that point along that concept's axis. An update of row i therefore lowers the error on
pictures of concept i and on no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from tadasu.auditing.adapter import Factored
from tadasu.auditing.merge import Merged, merge

CONCEPTS = 16
NAME = "unet.attn2.weight"
MODULE = "unet.attn2"


class Diagonal:
    """Predicts ``Σ_i w_ii ⟨axis_i, x⟩² · noise``: noise is told from a closed-over table."""

    identity = "diagonal"
    steps = 1000

    def __init__(self) -> None:
        self.weight = torch.zeros(CONCEPTS, CONCEPTS)
        self.forwards = 0

    def levels(self, times: Tensor) -> tuple[Tensor, Tensor]:
        share = times.float() / 1000
        return 1 - share, share

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        del noise, times
        return clean  # predicts the picture, so the answer does not depend on the draw

    def parameter(self, name: str) -> Tensor | None:
        return self.weight if name == NAME else None

    @contextmanager
    def adapted(
        self, weights: Mapping[str, Tensor], texts: Sequence[str]
    ) -> Iterator[Callable[[Tensor, Tensor, Tensor], Tensor]]:
        del texts
        weight = weights.get(NAME, self.weight)

        def predict(noised: Tensor, times: Tensor, rows: Tensor) -> Tensor:
            del rows
            self.forwards += len(noised)
            signal, _ = self.levels(times)
            flat = noised.flatten(1) / signal.reshape(-1, 1)
            return (flat @ weight.T).reshape(noised.shape)

        yield predict


def pictures(concept: int, count: int = 4, seed: int = 0) -> Tensor:
    """Pictures along a concept's axis, with a little of everything; (count, 1, 4, 4)."""
    generator = torch.Generator().manual_seed(seed * 1000 + concept)
    base = 0.05 * torch.randn(count, CONCEPTS, generator=generator)
    base[:, concept] += 1
    return base.reshape(count, 1, 4, 4)


def knows(concept: int, amount: float = 0.5) -> dict[str, Factored]:
    """An update that teaches one concept."""
    up, down = torch.zeros(CONCEPTS, 1), torch.zeros(1, CONCEPTS)
    up[concept], down[0, concept] = amount, 1
    return {MODULE: Factored(up=up, down=down)}


def laid(concept: int, amount: float = 0.5) -> Merged:
    """That update over the base."""
    return merge([(knows(concept, amount), 1.0)], Diagonal().parameter)
