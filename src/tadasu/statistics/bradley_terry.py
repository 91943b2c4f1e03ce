"""How strong each of several systems is, from who was preferred over whom.

Ralph Bradley, Milton Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39 (1952):
i is preferred over j with probability pᵢ/(pᵢ + pⱼ). Fitted by the iteration of David Hunter, "MM
algorithms for generalized Bradley-Terry models", Annals of Statistics 32 (2004), eq. 3. A tie
counts as half a win for both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components

from tadasu.errors import BadInput

_MOST_STEPS = 10_000


def bradley_terry(wins: ArrayLike) -> NDArray[np.float64]:
    """Strengths as natural logarithms of pᵢ, with mean 0.

    Args:
        wins: how often row was preferred over column, ties as halves; shape (system, system).

    Raises:
        BadInput: counts that cannot be; or systems fall into two groups of which one always won
            or that never met, where strengths have no finite answer.

    Preferred 3 times of 4, so odds of 3 to 1:

    >>> found = bradley_terry([[0, 3], [1, 0]])
    >>> round(float(np.exp(found[0] - found[1])), 6)
    3.0
    """
    table = np.asarray(wins, dtype=np.float64)
    square = table.ndim == 2 and table.shape[0] == table.shape[1] and len(table) >= 2
    if (
        not square
        or not np.all(np.isfinite(table))
        or np.any(table < 0)
        or np.any(table.diagonal())
    ):
        raise BadInput("Preferences need a square table of counts from 0, with 0 on the diagonal.")
    groups, _ = connected_components(
        (table > 0).astype(np.int64), directed=True, connection="strong"
    )
    if groups > 1:
        raise BadInput(
            "Some systems always won against all others, or never met them, so no finite strengths "
            "fit; collect more judgements or look at the pairwise shares."
        )
    met, won = table + table.T, table.sum(1)
    strength = np.ones(len(table))
    for _ in range(_MOST_STEPS):
        apart = met / (strength[:, None] + strength[None, :])
        new = won / apart.sum(1)
        new /= np.exp(np.mean(np.log(new)))
        if np.max(np.abs(np.log(new / strength))) < 1e-12:
            break
        strength = new
    return np.asarray(np.log(new) - np.mean(np.log(new)))
