"""Conditional: a map that acts only on prompts that contain its concepts, and as far as they do.

The idea is Semantic Surgery's (Xiong et al., NeurIPS 2025, arXiv 2510.22851): look for each concept
in the prompt's own context, and leave everything else untouched. Here the presence of a concept
multiplies its move and its weight in the same ridge regression that the folded edit uses, so that

* a prompt without any edited concept passes through bit for bit;
* with a hundred concepts stored, a prompt is only edited for the one or two it contains, and
  these do not share the room of the other ninety-eight.

Presence is a matched filter: the linear functional that is 1 on the concept's last-word rows and
least on every row of the texts that must stay. It is calibrated without images:
shut below what preserved texts and captions reach, open from near what the concept's own sentences
reach. Where the two overlap the gate opens early (it fails towards erasing) and the concept is
listed in ``overlapping``. Departure from the paper: linear filters per name instead of one cosine,
and the correction is the ridge map instead of a vector subtraction.

Only the folded form survives in a file that others run; this one has to be attached.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.gated_map import GatedMap
from tadasu.editing.metric import IDENTITY, cholesky
from tadasu.editing.problem import Problem, Reading
from tadasu.editing.uce import UnifiedConceptEditing, balanced, condensed
from tadasu.errors import BadInput

ROUNDING = 1e-3


@dataclass(frozen=True, kw_only=True)
class ConditionalEditing:
    """The default solver behind presence gates.

    Args:
        base: what a change costs, how near a concept has to get to its target, and the reading.
        quantile: share of the texts to be kept for which the gate must be completely shut.
        ramp: where between shut and the concept's own sentences the gate is fully open;
            small opens early.
    """

    base: UnifiedConceptEditing = field(default_factory=UnifiedConceptEditing)
    quantile: float = 0.999
    ramp: float = 0.25

    def __post_init__(self) -> None:
        """Refuse thresholds outside their range."""
        if not (0 < self.quantile <= 1 and 0 < self.ramp <= 1):
            raise BadInput("quantile and ramp are above 0 and at most 1.")

    @property
    def reading(self) -> Reading:
        """Token modes and templates."""
        return self.base.reading

    def solve(self, problem: Problem) -> GatedMap:
        """The gated map of one site.

        Raises:
            BadInput: when there is no preserved text or caption to calibrate the gates on.
        """
        if problem.others.shape[0] < 2:  # the empty prompt is always there
            raise BadInput(
                "A presence gate needs texts for which it stays shut: "
                "give a preserve list or captions."
            )
        metric = self.base.metric(problem)
        sources, moves, owners = condensed(problem)
        whitened = metric.whiten(sources.T)
        filters = presence_filters(problem)
        shut, opened = self._calibrated(filters, problem)
        return GatedMap(
            whitened=whitened,
            moves=moves,
            B=metric.back(whitened),
            owners=owners,
            weights=self._weights(whitened, moves, owners),
            filters=filters,
            shut=shut,
            open=opened,
            filter_owners=problem.name_owners,
            concepts=problem.concepts,
        )

    def _weights(self, whitened: Tensor, moves: Tensor, owners: Tensor) -> Tensor:
        """Balanced for each concept by itself, since it will be active by itself."""
        weights = torch.empty(len(owners), dtype=torch.float64)
        for concept in range(int(owners.max()) + 1):
            own = owners == concept
            alone = torch.zeros(int(own.sum()), dtype=torch.int64)
            asked = self.base.tolerance or 0.1
            weights[own] = balanced(IDENTITY, whitened[:, own].T, moves[own], alone, asked)
        return weights

    def _calibrated(self, filters: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        kept = (problem.others.to(torch.float64) @ filters).amax(1)
        # Encoders round differently in batches of another size; that may not open a gate.
        shut = kept.quantile(self.quantile, dim=0, interpolation="higher") + ROUNDING
        own = (problem.seen.to(torch.float64) @ filters).amax(1)
        sentences = problem.seen_names[:, None] == torch.arange(filters.shape[1])
        least = own.masked_fill(~sentences, torch.inf).amin(0)
        return shut, torch.minimum(shut + self.ramp * (least - shut), least)


def presence_filters(problem: Problem) -> Float[Tensor, "width names"]:
    """Per name, the linear functional that is 1 on its last-word rows and least elsewhere.

    Elsewhere is every row of every text that must stay, and of the prior's captions.
    """
    rows = problem.others.to(torch.float64).flatten(0, 1)
    cost = rows.T @ rows / rows.shape[0]
    if problem.prior is not None:
        cost = cost + problem.prior.mean
    eye = torch.eye(problem.width, dtype=torch.float64)
    metric = cholesky(cost + 1e-4 * float(cost.trace()) / problem.width * eye)
    whitened = metric.whiten(problem.words.T)
    filters = []
    for name in range(len(problem.name_owners)):
        own = whitened[:, problem.seen_names == name]
        small = own.T @ own
        ridge = 1e-3 * small.diagonal().mean() * torch.eye(own.shape[1], dtype=torch.float64)
        ones = torch.ones(own.shape[1], 1, dtype=torch.float64)
        filters.append(own @ torch.cholesky_solve(ones, torch.linalg.cholesky(small + ridge)))
    return metric.back(torch.cat(filters, 1))
