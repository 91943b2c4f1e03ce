"""RECE: Reliable and Efficient Concept Erasure.

Gong, Chen, Wei, Chen, Jiang: ECCV 2024, arXiv 2407.12383. After a UCE edit some other context may
still make the old picture. Eq. 8 finds it in closed form,

    c' = (λ I + Σ WᵀW)⁻¹ (Σ Wᵀ W₀) c        W₀ old, W edited projections, summed over all layers

and the next round sends ``c'`` to the anchor as well. With ``W = W₀ M`` and ``H = Σ W₀ᵀW₀`` this is
``(λ I + Mᵀ H M)⁻¹ Mᵀ H c``: one solve per round, however many layers there are.

The published code picks the best round with a detector on generated images; here the number of
rounds is a parameter and the self-check reports what each leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.editing.problem import Problem, Reading
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ReliableEfficientConceptErasure:
    """UCE, then rounds that close the ways around it.

    Args:
        rounds: adversarial rounds after the first edit; 0 is UCE. Published: 3 for nudity, 1 for
            styles.
        regularisation: λ of eq. 8; larger keeps the found contexts smaller. Published: 0.1 for
            nudity, 0.001 for styles.
        ridge: ridge, erase and preserve weight of every UCE step (published: 0.1).
        reading: published: all 77 rows.
    """

    rounds: int = 3
    regularisation: float = 0.1
    ridge: float = 0.1
    reading: Reading = field(
        default_factory=lambda: Reading(tokens="all", preserve_tokens="all", empty="bos")
    )

    reads_projections: ClassVar[bool] = True

    def solve(self, problem: Problem) -> ContextMap:
        """The context map of one site.

        Raises:
            BadInput: when the problem does not say what the projections are (``gram``).
        """
        if problem.gram is None:
            raise BadInput("RECE needs the sum of WᵀW over the edited projections (gram).")
        step = replace(
            UnifiedConceptEditing.v1(),
            ridge=self.ridge,
            erase_scale=self.ridge,
            preserve_scale=self.ridge,
        )
        edit = step.solve(problem)
        for _ in range(self.rounds):
            found = adversarial(edit, problem.gram, problem.sources, self.regularisation)
            later = step.solve(replace(problem, sources=found))
            edit = later.then(edit).compressed()  # W M M′: the later map meets the context first
        return edit


def adversarial(
    edit: ContextMap,
    gram: Float[Tensor, "width width"],
    sources: Float[Tensor, "edits width"],
    regularisation: float,
) -> Float[Tensor, "edits width"]:
    """Contexts whose edited outputs come closest to the old outputs of the sources (eq. 8)."""
    forward = edit.dense()
    seen = forward.T @ gram  # Mᵀ H
    system = seen @ forward + regularisation * torch.eye(edit.width, dtype=torch.float64)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve(seen @ sources.T, factor).T
