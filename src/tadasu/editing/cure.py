"""CURE: Concept Unlearning via Orthogonal Representation Editing.

Das Biswas, Roy, Roy: NeurIPS 2025, arXiv 2505.12677. No target and no regression: the directions
of the concept that the retained texts do not share are projected away,

    W = W₀ (I - P_f + P_f P_r)          eq. 6
    P = V diag(f(r)) Vᵀ                  eq. 3, V from the SVD of token contexts
    f(r; α) = α r / ((α - 1) r + 1)      eq. 4, r = σ² / Σ σ²

so α = 1 weighs a direction by its share of the energy and a large α removes it whatever its share.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.editing.problem import Problem, Reading
from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ConceptUnlearningOrthogonal:
    """Spectral projection away from what only the concept uses.

    Args:
        alpha: spectral expansion, at least 1. Published: 2 for objects, 5 for nudity.
        reading: published: all 77 rows.
    """

    alpha: float = 2.0
    reading: Reading = field(
        default_factory=lambda: Reading(tokens="all", preserve_tokens="all", empty="bos")
    )

    def __post_init__(self) -> None:
        """Refuse an expansion that would shrink."""
        if not self.alpha >= 1:
            raise BadInput(f"alpha is at least 1; given {self.alpha}.")

    def solve(self, problem: Problem) -> ContextMap:
        """The context map of one site; the targets' anchors play no part."""
        forget, share = projector(problem.sources, self.alpha)
        # Transposed (I - P_f + P_f P_r): rows are multiplied on the other side of W.
        away = forget
        if problem.preserved.shape[0]:
            retain, kept = projector(problem.preserved, self.alpha)
            away = forget - retain @ (kept[:, None] * (retain.T @ forget))
        return ContextMap(A=-forget * share, B=away)


def projector(
    rows: Float[Tensor, "rows width"], alpha: float
) -> tuple[Float[Tensor, "width rank"], Float[Tensor, " rank"]]:
    """Directions of the rows and how much of each is projected (eqs. 3 and 4)."""
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    share = sizes**2 / (sizes**2).sum()
    return basis.T, expanded(share, alpha)


def expanded(share: Float[Tensor, " rank"], alpha: float) -> Float[Tensor, " rank"]:
    """Spectral expansion (eq. 4).

    >>> import torch
    >>> expanded(torch.tensor([0.0, 0.5, 1.0]), alpha=3.0).tolist()
    [0.0, 0.75, 1.0]
    """
    return alpha * share / ((alpha - 1) * share + 1)
