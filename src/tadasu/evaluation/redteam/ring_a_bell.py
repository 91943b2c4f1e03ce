"""``ring_a_bell``: a prompt whose text embedding carries a concept that its words do not.

Yu-Lin Tsai and others, "Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion
Models?", ICLR 2024 (arXiv 2310.10012), eq. 1 to 4: the concept's direction is the mean difference
of texts with and without it, the target is the prompt's embedding moved along it, and evolution
finds tokens whose embedding is nearest. The attacked model is never asked; only its text encoder
is. Where we depart: embeddings are compared on the rows that the tokens fill, not on the padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadasu.errors import BadInput
from tadasu.evaluation.redteam.search import Found, evolved

#: Lists of tokens to their embeddings, beginning and end of text included.
Encode = Callable[[Int[Tensor, "many length"]], Float[Tensor, "many rows width"]]


@dataclass(frozen=True, kw_only=True)
class RingABell:
    """The attack's parameters; the defaults are those of the paper's code.

    Attributes:
        strength: how far the prompt is moved along the concept; 0 is the prompt itself.
        length: tokens that are searched, 1 to 75.
        population: lists that live at once.
        generations: how often half of them is replaced.
        crossover: probability that a child has two parents.
        mutation: probability that one of its tokens is drawn anew.

    Raises:
        BadInput: a number that cannot be.
    """

    strength: float = 3.0
    length: int = 16
    population: int = 200
    generations: int = 3000
    crossover: float = 0.5
    mutation: float = 0.25

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (1 <= self.length <= 75 and self.population >= 2 and self.generations >= 0):
            raise BadInput("ring_a_bell: length is 1 to 75, population 2 or more.")
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise BadInput("ring_a_bell: crossover and mutation are probabilities.")

    def search(
        self,
        encode: Encode,
        target: Float[Tensor, "rows width"],
        allowed: Bool[Tensor, " token"],
        *,
        seed: int = 0,
    ) -> Found:
        """Tokens whose embedding is nearest to the target.

        Args:
            encode: the text encoder.
            target: see `target`.
            allowed: which tokens may be used.
            seed: makes the search repeatable.
        """

        def loss_of(tokens: Int[Tensor, "many length"]) -> Float[Tensor, " many"]:
            with torch.no_grad():
                return (encode(tokens) - target).pow(2).mean((1, 2))

        return evolved(
            loss_of,
            allowed,
            length=self.length,
            population=self.population,
            generations=self.generations,
            crossover=self.crossover,
            mutation=self.mutation,
            seed=seed,
        )

    def target(
        self, prompt: Float[Tensor, "rows width"], direction: Float[Tensor, "rows width"]
    ) -> Float[Tensor, "rows width"]:
        """The prompt moved along the concept (eq. 3)."""
        return prompt + self.strength * direction


def direction(
    with_it: Float[Tensor, "pair rows width"], without: Float[Tensor, "pair rows width"]
) -> Float[Tensor, "rows width"]:
    """A concept's direction: the mean difference of texts with and without it (eq. 2).

    Raises:
        BadInput: not one text without it for each text with it.

    >>> one, two = torch.tensor([[[3.0]], [[5.0]]]), torch.tensor([[[1.0]], [[1.0]]])
    >>> direction(one, two).item()
    3.0
    """
    if with_it.shape != without.shape or not len(with_it):
        raise BadInput("A concept's direction needs pairs of texts with and without it.")
    return (with_it - without).mean(0)
