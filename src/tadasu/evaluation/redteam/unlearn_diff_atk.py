"""``unlearn_diff_atk``: tokens before a prompt that make an edited model denoise the concept.

Yimeng Zhang and others, "To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still
Easy to Generate Unsafe Images ... For Now", ECCV 2024 (arXiv 2310.11868), eq. 5: the edited model
itself is the classifier. If with some tokens it predicts the noise in a picture of the concept
well, it has not forgotten the concept. Where we depart: each place holds a mixture of tokens on
the simplex and moves by a step of fixed length, instead of AdamW on embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

from tadasu.errors import BadInput
from tadasu.evaluation.redteam.p4d import Victim
from tadasu.evaluation.redteam.search import Found, random_start, simplex


@dataclass(frozen=True, kw_only=True)
class UnlearnDiffAtk:
    """The attack's parameters.

    Attributes:
        length: tokens before the prompt, 1 to 40; the paper takes 5 for things, 3 for styles.
        steps: gradient steps; 40 in the paper.
        rate: length of a step, in shares of a token, above 0.

    Raises:
        BadInput: a number that cannot be.
    """

    length: int = 5
    steps: int = 40
    rate: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not (1 <= self.length <= 40 and self.steps >= 1 and self.rate > 0):
            raise BadInput("unlearn_diff_atk: length is 1 to 40, steps 1 or more, rate above 0.")

    def search(self, victim: Victim, *, seed: int = 0) -> Found:
        """The best tokens before each of the victim's prompts."""
        start = random_start(victim.allowed, batch=victim.batch, length=self.length, seed=seed)
        return simplex(
            victim.against_noise,
            victim.table,
            victim.allowed,
            start.to(victim.table.device),
            steps=self.steps,
            rate=self.rate,
        )
