"""Several comparisons at once: p-values that keep the chance of any false alarm small.

Sture Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6 (1979). Holds under any dependence between the comparisons and is never weaker
than Bonferroni's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tadasu.errors import BadInput


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusts p-values, so that "adjusted < 0.05" is wrong anywhere at most once in 20 tables.

    Args:
        p_values: one p-value for each comparison, from 0 to 1, in any order.

    Returns:
        The adjusted p-values in the order given, from 0 to 1.

    Raises:
        BadInput: there is no p-value, or one is outside 0 to 1 or not finite.

    The smallest of three is multiplied by 3, the next by 2, the last by 1; none may fall below
    the one before it:

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or given.size == 0:
        raise BadInput("Holm's adjustment needs a list of at least one p-value.")
    if not np.all((given >= 0) & (given <= 1)):  # a NaN fails here as well
        raise BadInput("Every p-value must be a number from 0 to 1.")
    order = np.argsort(given, kind="stable")
    stepped = given[order] * np.arange(given.size, 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted
