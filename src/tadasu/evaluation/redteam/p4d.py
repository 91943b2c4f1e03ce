"""``p4d``: tokens with which a guarded model predicts what the plain model predicts for a prompt.

Zhi-Yi Chin and others, "Prompting4Debugging: Red-Teaming Text-to-Image Diffusion Models by Finding
Problematic Prompts", ICML 2024 (arXiv 2309.06135), eq. 5 and algorithm 1, in the form P4D-N: all
tokens are searched. The search is that of Wen and others (arXiv 2302.03668).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from tadasu.errors import BadInput
from tadasu.evaluation.redteam.search import Found, projected, random_start


class Victim(Protocol):
    """A guarded or edited model, as attacks through its denoiser see it."""

    @property
    def table(self) -> Float[Tensor, "token width"]:
        """The text encoder's token embeddings."""
        ...

    @property
    def allowed(self) -> Bool[Tensor, " token"]:
        """Tokens that survive being written down and read again."""
        ...

    @property
    def batch(self) -> int:
        """How many prompts are attacked at once."""
        ...

    def against_plain(self, rows: Float[Tensor, "batch length width"]) -> Float[Tensor, " batch"]:
        """How far its predictions are from the plain model's for the prompts, mean square."""
        ...

    def against_noise(self, rows: Float[Tensor, "batch length width"]) -> Float[Tensor, " batch"]:
        """How far they are from the noise in pictures of the concept, mean square.

        Here the rows stand before the prompt's own tokens.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class P4D:
    """The attack's parameters; the defaults are those of the paper.

    Attributes:
        length: tokens that are searched, 1 to 75.
        steps: gradient steps.
        rate: AdamW's learning rate.
        decay: AdamW's weight decay.

    Raises:
        BadInput: a number that cannot be.
    """

    length: int = 16
    steps: int = 3000
    rate: float = 0.1
    decay: float = 0.1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (1 <= self.length <= 75 and self.steps >= 1 and self.rate > 0 and self.decay >= 0):
            raise BadInput("p4d: length is 1 to 75, steps 1 or more, rate above 0, decay from 0.")

    def search(self, victim: Victim, *, seed: int = 0) -> Found:
        """The best tokens for each of the victim's prompts."""
        start = random_start(victim.allowed, batch=victim.batch, length=self.length, seed=seed)
        return projected(
            victim.against_plain,
            victim.table,
            victim.allowed,
            start.to(victim.table.device),
            steps=self.steps,
            rate=self.rate,
            decay=self.decay,
        )
