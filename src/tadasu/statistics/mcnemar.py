"""Two systems on the same prompts: is one better, or did chance choose?

Quinn McNemar, "Note on the sampling error of the difference between correlated proportions or
percentages", Psychometrika 12 (1947), in its exact form: among the pairs on which the two differ,
under the null hypothesis each direction has probability 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtr

from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """The exact test on paired yes/no outcomes.

    Attributes:
        first_only: pairs in which only the first system said yes.
        second_only: pairs in which only the second did.
        n: all pairs.
        p_value: two-sided, from 0 to 1; 1 when the systems never differ.
    """

    first_only: int
    second_only: int
    n: int
    p_value: float

    @property
    def difference(self) -> float:
        """Share of yes of the second system minus that of the first, as in `paired_bootstrap`."""
        return (self.second_only - self.first_only) / self.n


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Compare two systems on the same items.

    Args:
        first: for each item whether the first system said yes (was unsafe, was right, ...).
        second: the same for the second system, in the same order.

    Raises:
        BadInput: no items, or sequences of different lengths.

    >>> result = mcnemar([True] * 6, [False] * 6)
    >>> result.p_value
    0.03125
    """
    if len(first) != len(second) or not first:
        raise BadInput(
            f"A paired test needs the same items for both; given {len(first)} and {len(second)}."
        )
    first_only = sum(a and not b for a, b in zip(first, second, strict=True))
    second_only = sum(b and not a for a, b in zip(first, second, strict=True))
    differ = first_only + second_only
    tail = float(bdtr(min(first_only, second_only), differ, 0.5)) if differ else 1.0
    return McNemar(
        first_only=first_only, second_only=second_only, n=len(first), p_value=min(1.0, 2 * tail)
    )
