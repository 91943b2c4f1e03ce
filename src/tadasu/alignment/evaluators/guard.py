"""Exchanges judged by a guard model that writes its verdict: the probability of its first word.

Llama Guard, ShieldGemma, Qwen3Guard and Granite Guardian answer with a fixed first word. Reading
the probability of that word instead of the word gives a score that a threshold can be set on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tadasu.alignment.evaluators.evaluator import UNSAFE, Exchange, scored

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from tadasu.records import Score


class FirstWordNetwork(Protocol):
    """A guard model."""

    def unsafe_share(self, exchanges: Sequence[Exchange]) -> Float[np.ndarray, " exchange"]:
        """Of the first words that mean a verdict, the share of those that mean unsafe."""
        ...


@dataclass(frozen=True, kw_only=True)
class GenerativeGuard:
    """Scores exchanges by the probability with which a guard model begins to say unsafe.

    Args:
        network: the guard model.
    """

    network: FirstWordNetwork

    name = "generative_guard"
    unit = "probability"

    def score(self, exchanges: Sequence[Exchange]) -> list[Score]:
        """One probability for each exchange."""
        if not exchanges:
            return []
        return [
            scored(self.name, UNSAFE, float(value), self.unit)
            for value in self.network.unsafe_share(exchanges)
        ]
