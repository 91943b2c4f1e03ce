"""SPEED: Scalable, Precise, and Efficient Concept Erasure.

Li, Wang, Hu, Jiang, Liang, Hao, Ma, Feng: ICLR 2026, arXiv 2503.07392. The change is confined to
the null space of what is retained, and the start token and the empty prompt may not move at all:

    Δ = W (C* - C) Cᵀ P Q M        P projector on the null space, Q and M from the hard rows

which is the ridge regression of :mod:`tadasu.editing.metric` with cost 1 inside the null space and
infinite outside. Two refinements of the retained set are the paper's: only texts that the erasure
would move more than average are kept (influence-based filtering), and they are surrounded by noise
in the directions the projections see least (directed augmentation).

Departures: ``WᵀW`` summed over all layers stands in for each layer's own weights, so that one map
serves all layers; the empty prompt's leading directions replace its three k-means centroids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

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
        cutoff: eigenvalues of the retained Gram matrix below this count as its null space.
            Published: 0.1 for a few concepts, 1e-4 for a hundred.
        copies: noisy copies of every retained row; 0 leaves augmentation out. Published: 10.
        noise_directions: in how many of the least seen directions the noise lies.
        seed: of the noise.
        reading: published: the last word (all rows but the start token for nudity).
    """

    cutoff: float = 0.1
    copies: int = 10
    noise_directions: int = 1
    seed: int = 0
    reading: Reading = field(
        default_factory=lambda: Reading(tokens="last", preserve_tokens="last", empty="bos")
    )

    reads_projections: ClassVar[bool] = True

    def solve(self, problem: Problem) -> ContextMap:
        """The context map of one site.

        Raises:
            BadInput: when nothing is retained, or when the retained rows leave no null space.
        """
        if not problem.preserved.shape[0]:
            raise BadInput("SPEED needs a preserve list: it edits inside its null space.")
        retained = self.augmented(influential(problem), problem.gram)
        values, vectors = torch.linalg.eigh(retained.T @ retained)
        free = vectors[:, values < self.cutoff]
        if not free.shape[1]:
            raise BadInput(
                f"The retained texts leave no direction below cutoff {self.cutoff}; "
                "raise the cutoff or retain fewer texts."
            )
        metric = subspace(free).constrained(leading(problem.empty))
        return ridge_solve(metric, problem.sources, problem.moves, problem.weights)

    def augmented(
        self, retained: Float[Tensor, "kept width"], gram: Float[Tensor, "width width"] | None
    ) -> Float[Tensor, "more width"]:
        """Retained rows with noisy copies in the directions the projections see least."""
        if not self.copies or gram is None:
            return retained
        least = torch.linalg.eigh(gram)[1][:, : self.noise_directions]
        source = torch.Generator().manual_seed(self.seed)
        shape = (self.copies, *retained.shape)
        noise = torch.randn(shape, generator=source, dtype=torch.float64) @ least @ least.T
        return torch.cat([retained, (retained + noise).flatten(0, 1)])


def influential(problem: Problem) -> Float[Tensor, "kept width"]:
    """Preserved rows that the plain erasure would move more than average."""
    free = ridge_and_rows(1.0, problem.preserved[:0])
    erasure = ridge_solve(free, problem.sources, problem.moves, problem.weights)
    shift = erasure.delta(problem.preserved).norm(dim=1)
    return problem.preserved[shift >= shift.mean()]
