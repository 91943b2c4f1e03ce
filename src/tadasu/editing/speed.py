"""SPEED: Scalable, Precise, and Efficient Concept Erasure.

Li, Wang, Hu, Jiang, Liang, Hao, Ma, Feng: ICLR 2026, arXiv 2503.07392. The change is confined to
the null space of what is retained, and the start token and the empty prompt may not move at all:

    Δ = W (C* - C) Cᵀ P Q M        P projector on the null space, Q and M from the hard rows

which is the ridge regression of :mod:`tadasu.editing.metric` with cost 1 inside the null space and
infinite outside. Two refinements of the retained set are the paper's: only texts that the erasure
would move more than average are kept (influence-based filtering), and they are surrounded by noise
in the directions the projections see least (directed augmentation).

Departures: ``WᵀW`` summed over all layers stands in for each layer's own weights, so that one map
serves all layers; on a model of one layer the preset ``published`` gives the published numbers
(``tests/editing/recorded/speed.json``). The map acts on the context, so keys change as well as
values. The default keeps the empty prompt's leading directions still instead of its three k-means
centroids, whose start is random.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.editing.metric import ridge_and_rows, ridge_solve, subspace
from tadasu.editing.problem import Problem, Reading
from tadasu.editing.uce import leading
from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ScalablePreciseEfficientErasure:
    """A change that what is retained cannot feel.

    Args:
        cutoff: eigenvalues of the mean outer product of the retained rows below this count as its
            null space. Published: 0.1 for a few concepts, 1e-4 for a hundred.
        copies: noisy copies of every retained row; 0 leaves augmentation out. Published: 10.
        noise_directions: in how many of the least seen directions the noise lies.
        seed: of the noise.
        retain_scale: cost of a change inside the null space. Published: 1; 0.05 for ten concepts.
        filtered: whether only rows that the erasure would move more than average are retained.
        hard: what of the empty prompt may not move: its ``leading`` directions, or its three
            ``centroids`` as published.
        reading: published: the last word (all rows but the start token for nudity).
    """

    cutoff: float = 0.1
    copies: int = 10
    noise_directions: int = 1
    seed: int = 0
    retain_scale: float = 1.0
    filtered: bool = True
    hard: Literal["leading", "centroids"] = "leading"
    reading: Reading = field(
        default_factory=lambda: Reading(tokens="last", preserve_tokens="last", empty="bos")
    )

    reads_projections: ClassVar[bool] = True
    presets: ClassVar[tuple[str, ...]] = ("published", "published_many")

    @classmethod
    def published(cls) -> ScalablePreciseEfficientErasure:
        """Defaults of the published script."""
        return cls(hard="centroids")

    @classmethod
    def published_many(cls) -> ScalablePreciseEfficientErasure:
        """The published command for ten celebrities."""
        return cls(hard="centroids", retain_scale=0.05, filtered=False)

    def solve(self, problem: Problem) -> ContextMap:
        """The context map of one site.

        Raises:
            BadInput: when nothing is retained, or when the retained rows leave no null space.
        """
        if not problem.preserved.shape[0]:
            raise BadInput("SPEED needs a preserve list: it edits inside its null space.")
        weights = problem.weights / problem.words.shape[0]  # the mean over concepts
        retained = self.retained(problem, weights)
        values, vectors = torch.linalg.eigh(retained.T @ retained / retained.shape[0])
        free = vectors[:, values < self.cutoff]
        if not free.shape[1]:
            raise BadInput(
                f"The retained texts leave no direction below cutoff {self.cutoff}; "
                "raise the cutoff or retain fewer texts."
            )
        still = leading(problem.empty) if self.hard == "leading" else centroids(problem.empty)
        metric = subspace(free / self.retain_scale**0.5).constrained(still)
        return ridge_solve(metric, problem.sources, problem.moves, weights)

    def retained(
        self, problem: Problem, weights: Float[Tensor, " edits"]
    ) -> Float[Tensor, "more width"]:
        """The rows to retain, filtered and augmented; chosen by what a plain erasure would do."""
        free = ridge_and_rows(1.0, problem.preserved[:0])
        erasure = ridge_solve(free, problem.sources, problem.moves, weights)
        kept = problem.preserved
        if self.filtered and self.copies:
            kept = influential(erasure, kept, problem.gram)
        if not self.copies or problem.gram is None:
            return kept
        noisy = self.noisy(kept, problem.gram)
        return torch.cat([kept, influential(erasure, noisy, problem.gram)])

    def noisy(
        self, retained: Float[Tensor, "kept width"], gram: Float[Tensor, "width width"]
    ) -> Float[Tensor, "copies width"]:
        """Copies of rows with noise in the directions the projections see least."""
        least = torch.linalg.eigh(gram)[1][:, : self.noise_directions]
        source = torch.Generator().manual_seed(self.seed)
        shape = (self.copies, *retained.shape)
        noise = torch.randn(shape, generator=source, dtype=torch.float64) @ least @ least.T
        found: Tensor = (retained + noise).flatten(0, 1)
        return found


def influential(
    erasure: ContextMap,
    rows: Float[Tensor, "rows width"],
    gram: Float[Tensor, "width width"] | None = None,
) -> Float[Tensor, "kept width"]:
    """Rows whose outputs an erasure would move at least as much as the average."""
    moved = erasure.delta(rows)
    squares = (moved**2).sum(1) if gram is None else ((moved @ gram) * moved).sum(1)
    shift = squares.clamp_min(0).sqrt()
    return rows[shift >= shift.mean()]


def centroids(rows: Float[Tensor, "rows width"], count: int = 3) -> Float[Tensor, "kept width"]:
    """The start token, and the means of three groups of the other rows (k-means).

    The groups start at evenly spaced rows, so the result is the same every time.
    """
    rest = rows[1:]
    at = torch.linspace(0, rest.shape[0] - 1, min(count, rest.shape[0])).round().long()
    centres = rest[at]
    for _ in range(100):
        nearest = torch.cdist(rest, centres).argmin(1)
        found = [
            rest[nearest == k].mean(0) for k in range(len(centres)) if bool((nearest == k).any())
        ]
        moved = torch.stack(found)
        if moved.shape == centres.shape and torch.equal(moved, centres):
            break
        centres = moved
    return torch.cat([rows[:1], centres])
