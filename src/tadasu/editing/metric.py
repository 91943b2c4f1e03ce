"""The cost of changing a direction, and the one ridge regression behind every solver.

A solver looks for the smallest change ``Δ = M - I`` that moves the sources ``C`` by ``R``:

    min over Δ of  Σ wᵢ ‖Δ cᵢ - rᵢ‖² + tr(Δ G Δᵀ)     subject to  Δ h = 0 for hard rows h.

``G`` says what a change costs: a ridge, preserved rows, the prior's second moment. With a factor
``F`` such that ``FᵀF`` inverts ``G`` (on the allowed directions) and ``Y = F C``:

    Δ = R (W⁻¹ + YᵀY)⁻¹ Yᵀ F        edits fewer than the width: solve on the edits
    Δ = R W Yᵀ (I + Y W Yᵀ)⁻¹ F     otherwise: solve on the width

UCE, SPEED and ours differ only in ``G`` and in the weights. Everything is a Cholesky, QR or SVD in
float64; nothing is inverted and nothing depends on the number of layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.errors import BadInput

Columns = Float[Tensor, "width columns"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """A factor ``F`` of the inverse cost, as two functions.

    Args:
        whiten: ``X -> F X`` for columns.
        back: ``Y -> Fᵀ Y`` for columns.
    """

    whiten: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]

    def constrained(self, hard: Float[Tensor, "rows width"]) -> Metric:
        """The same cost, and hard rows must not move at all."""
        if not hard.shape[0]:
            return self
        basis = orthonormal(self.whiten(hard.T))

        def project(columns: Tensor) -> Tensor:
            return columns - basis @ (basis.T @ columns)

        return Metric(
            whiten=lambda columns: project(self.whiten(columns)),
            back=lambda columns: self.back(project(columns)),
        )


IDENTITY = Metric(whiten=lambda columns: columns, back=lambda columns: columns)


def ridge_and_rows(ridge: float, rows: Float[Tensor, "rows width"]) -> Metric:
    """``G = ridge · I + rowsᵀ rows``, solved on the smaller side.

    Raises:
        BadInput: when the ridge is not above 0 (the system would be singular).
    """
    if not ridge > 0:
        raise BadInput(f"The ridge must be above 0, or the system is singular; given {ridge}.")
    if rows.shape[0] > rows.shape[1] // 2:
        width = rows.shape[1]
        return cholesky(rows.T @ rows + ridge * torch.eye(width, dtype=torch.float64))
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    shrink = 1 - torch.sqrt(ridge / (ridge + sizes**2))

    def root(columns: Tensor) -> Tensor:
        # The symmetric root of G⁻¹: directions of the rows shrink, the others do not.
        along: Tensor = basis.T @ (shrink[:, None] * (basis @ columns))
        rest: Tensor = columns - along
        return rest * (1 / math.sqrt(ridge))

    return Metric(whiten=root, back=root)


def cholesky(cost: Float[Tensor, "width width"]) -> Metric:
    """Any positive definite ``G``.

    Raises:
        BadInput: when ``G`` is singular.
    """
    factor, failed = torch.linalg.cholesky_ex(cost)
    if int(failed):
        raise BadInput(
            "The system is singular: some direction costs nothing to change. "
            "Raise the ridge or give a larger prior."
        )
    return Metric(
        whiten=lambda columns: torch.linalg.solve_triangular(factor, columns, upper=False),
        back=lambda columns: torch.linalg.solve_triangular(factor.T, columns, upper=True),
    )


def subspace(basis: Float[Tensor, "width free"]) -> Metric:
    """Only these orthonormal directions may change, each at cost 1 (SPEED's null space)."""
    return Metric(whiten=lambda columns: basis.T @ columns, back=lambda columns: basis @ columns)


def orthonormal(columns: Columns, tolerance: float = 1e-6) -> Columns:
    """An orthonormal basis of what the columns span; contexts are known to single precision."""
    left, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    basis: Tensor = left[:, sizes > tolerance * sizes[:1].clamp_min(1e-300)]
    return basis


def ridge_solve(
    metric: Metric,
    sources: Float[Tensor, "edits width"],
    moves: Float[Tensor, "edits width"],
    weights: Float[Tensor, " edits"],
) -> ContextMap:
    """The smallest change that moves the sources, as a context map.

    >>> import torch
    >>> metric = ridge_and_rows(1.0, torch.zeros(0, 2, dtype=torch.float64))
    >>> c = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> ridge_solve(metric, c, -c, one).apply(c).round(decimals=9).tolist()  # ridge = weight
    [[0.5, 0.0]]
    """
    whitened = metric.whiten(sources.T)
    if whitened.shape[1] <= whitened.shape[0]:
        small = whitened.T @ whitened + torch.diag(1 / weights)
        return ContextMap(A=_solved(small, moves).T, B=metric.back(whitened))
    heavy = whitened * weights
    small = heavy @ whitened.T + torch.eye(whitened.shape[0], dtype=torch.float64)
    directions = torch.eye(whitened.shape[0], dtype=torch.float64)
    return ContextMap(A=_solved(small, heavy @ moves).T, B=metric.back(directions))


def _solved(symmetric: Tensor, right: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(symmetric)
    if int(failed):
        raise BadInput("The system is singular: two edits ask for the same direction. Merge them.")
    return torch.cholesky_solve(right, factor)
