"""Layer: an edit as one more layer of the text encoder, closed unless a row carries the concept.

A linear map of width d cannot keep hundreds of directions and remove a hundred others. A gate can:
being told from a few hundred others by one linear threshold is easy at any width. So each name
gets a gate for its last word's row, one for the rows after it and one for each word before it, and
an open gate adds the concept's move to the row. That is a feed-forward block, hence one more layer
of the text encoder whose attention is silent, and it survives in a model folder that others load.

* gates: the linear functional that is 1 on the rows of its name and least on the rows of everything
  that must stay and of the other names; shut up to what the texts to be kept reach, and open well
  before what the name reaches in a sentence that its gate was not made from (each sentence is left
  out once);
* moves: a multiple of where the rows shall go. The encoder normalises every row after its last
  layer, so what an open gate adds many times over is what the row then means, whatever it meant
  before and in whatever style; a gate that is only a little open suffices. Shifts by a fraction
  (debias) are one ridge regression of all gates together instead, so that gates that open together
  do not push twice.

After T-Patcher (Huang et al., ICLR 2023, arXiv 2301.09785), which adds trained neurons to language
models, and our own ``conditional``; here both steps are closed form. Not a linear map: it cannot be
written as a LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm

from tadasu.editing.layer_map import LayerMap
from tadasu.editing.metric import cholesky
from tadasu.editing.problem import SENTENCES, Problem, Reading
from tadasu.errors import BadInput

CHUNK = 64
NARROW = 0.02
# Encoders round differently in batches of another size; that may not open a gate.
ROUNDING = 1e-3


@dataclass(frozen=True, kw_only=True)
class LayerEditing:
    """Gates and moves in closed form.

    Args:
        late: where between what the texts to be kept reach and the least of a name's own rows its
            gate starts to open; 0 opens early and erases harder, larger spares other texts.
        ramp: how much further, as a fraction of that way, the gate is fully open.
        quantile: share of the texts to be kept for which a gate must be completely shut.
        ridge: of the gates, as a fraction of the rows' mean square.
        force: how many times its target an open gate adds; what the row meant before shrinks to
            about one part in as many. 0 adds what is missing to the target and no more.
        reading: token modes and templates; always rows of the last layer.
    """

    late: float = 0.4
    ramp: float = 0.2
    quantile: float = 0.999
    ridge: float = 1e-3
    force: float = 20.0
    reading: Reading = field(
        default_factory=lambda: Reading(hidden=True, inner=True, templates=SENTENCES)
    )

    def __post_init__(self) -> None:
        """Refuse thresholds outside their range."""
        if not (0 < self.quantile <= 1 and 0 < self.ramp <= 1 and self.ridge > 0):
            raise BadInput("quantile and ramp are above 0 and at most 1, ridge is above 0.")
        if not 0 <= self.late <= 1 - self.ramp:
            raise BadInput(f"late is from 0 to 1 - ramp; given {self.late}.")
        if self.force < 0:
            raise BadInput(f"force is 0 or more; given {self.force}.")
        if not self.reading.hidden:
            raise BadInput("The layer solver reads hidden rows: Reading(hidden=True).")

    def solve(self, problem: Problem) -> LayerMap:
        """The map of the last layer's rows.

        Raises:
            BadInput: when there is no preserved text or caption to keep the gates shut for.
        """
        if problem.others.shape[0] < 2:  # the empty prompt is always there
            raise BadInput(
                "The gates need texts for which they stay shut: give a preserve list or captions."
            )
        groups = _groups(problem)
        own = [_normal(problem.sources[rows]) for rows in groups]
        cost = self._cost(own, problem.others)
        filters = torch.stack([_fitted(cost, u) for u in own], 1)
        reached = quantile(_reached(problem.others, filters), self.quantile) + ROUNDING
        least = torch.stack([(u @ f).min() for u, f in zip(own, filters.T, strict=True)])
        margins = least - reached
        # How low the name may fall in a sentence that the gate was not made from.
        sentences = (problem.source_offsets == 0).cumsum(0)
        unseen = [_unseen(cost, u, sentences[rows]) for u, rows in zip(own, groups, strict=True)]
        sure = margins > NARROW
        early = torch.stack(unseen).clamp_min(reached + NARROW)
        least = torch.where(sure, torch.minimum(least, early), least)
        # A first word such as "face" also stands in texts to be kept: no gate for that row.
        told = (margins > NARROW) | _whole(groups, problem)
        groups = [rows for rows, kept in zip(groups, told.tolist(), strict=True) if kept]
        filters, least, margins = filters[:, told], least[told], margins[told]
        # A gate that cannot tell fails towards erasing.
        span = (least - reached[told]).clamp_min(NARROW)
        shut = least - (1 - self.late) * span
        found = LayerMap(
            filters=filters,
            shut=shut,
            open=shut + self.ramp * span,
            moves=torch.zeros(len(groups), problem.width, dtype=torch.float64),
            owners=torch.stack([problem.owners[rows[0]] for rows in groups]),
            margins=margins,
            concepts=problem.concepts,
        )
        if self.force and problem.anchored:
            ends = torch.stack([problem.targets[rows].mean(0) for rows in groups])
            return replace(found, moves=self.force * ends)
        return _with_moves(found, problem)

    def _cost(
        self, own: list[Tensor], others: Float[Tensor, "texts tokens width"]
    ) -> Float[Tensor, "width width"]:
        """What a filter pays on all that stays and, less, on every name."""
        parts = [u.T @ u / u.shape[0] for u in own]
        cost = sum(parts) / len(parts) + _second_moment(others)
        width = cost.shape[0]
        ridge = self.ridge * float(cost.trace()) / width
        found: Tensor = cost + ridge * torch.eye(width, dtype=cost.dtype)
        return found


def quantile(values: Float[Tensor, "rows gates"], share: float) -> Float[Tensor, " gates"]:
    """Per gate, the value that a share of the rows does not pass.

    >>> import torch
    >>> quantile(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), 0.75).tolist()
    [3.0]
    """
    rank = max(1, round(share * values.shape[0]))
    return values.kthvalue(rank, dim=0).values


def _normal(rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    return layer_norm(rows, (rows.shape[-1],))


def _fitted(cost: Float[Tensor, "width width"], own: Float[Tensor, "rows width"]) -> Tensor:
    """The filter that is 1 on its own rows, as nearly as the cost lets it; scaled to their mean."""
    metric = cholesky(cost + own.T @ own / own.shape[0])
    found: Tensor = metric.back(metric.whiten(own.mean(0)[:, None]))[:, 0]
    return found / (own @ found).mean()


def _unseen(cost: Tensor, own: Float[Tensor, "rows width"], sentences: Tensor) -> Tensor:
    """The least value on a sentence's rows of a filter that was made without that sentence."""
    every = sorted(set(sentences.tolist()))
    if len(every) < 2:
        return torch.tensor(torch.inf, dtype=own.dtype)
    found = []
    for one in every:
        out = sentences == one
        found.append((own[out] @ _fitted(cost, own[~out])).min())
    return torch.stack(found).min()


def _second_moment(others: Float[Tensor, "texts tokens width"]) -> Float[Tensor, "width width"]:
    total = torch.zeros(others.shape[2], others.shape[2], dtype=torch.float64)
    for part in torch.split(others, CHUNK):
        rows = _normal(part).flatten(0, 1)
        total += rows.T @ rows
    return total / (others.shape[0] * others.shape[1])


def _reached(
    others: Float[Tensor, "texts tokens width"], filters: Float[Tensor, "width gates"]
) -> Float[Tensor, "texts gates"]:
    """The largest value of any row of each text."""
    thin = filters.to(others.dtype)
    parts = [(_normal(part) @ thin).amax(1) for part in torch.split(others, CHUNK)]
    return torch.cat(parts).to(torch.float64)


def _groups(problem: Problem) -> list[Tensor]:
    """Rows of each gate: a name's last word, the rows after it, and each word before it."""
    places = problem.source_offsets.clamp_max(1)
    groups = []
    for name in range(len(problem.name_owners)):
        own = problem.source_names == name
        for place in (0, 1, *range(int(places.min()), 0)):
            rows = (own & (places == place)).nonzero()[:, 0]
            if len(rows):
                groups.append(rows)
    return groups


def _whole(groups: list[Tensor], problem: Problem) -> Tensor:
    """Which gates see the whole name."""
    return torch.stack([problem.source_offsets[rows[0]] >= 0 for rows in groups])


def _with_moves(found: LayerMap, problem: Problem) -> LayerMap:
    gates = found.gated(problem.sources)
    small = gates.T @ gates
    ridge = 1e-3 * small.diagonal().mean().clamp_min(1e-12)
    metric = cholesky(small + ridge * torch.eye(len(small), dtype=torch.float64))
    moves = metric.back(metric.whiten(gates.T @ problem.moves))
    return replace(found, moves=moves)
