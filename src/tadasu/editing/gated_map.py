"""A context map that each prompt gets a part of: what ``conditional`` solves for.

The presence of a concept scales its move and its weight in the ridge regression, so what a prompt
gets is again a plain context map, solved on the few rows that are present.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True, eq=False)
class GatedMap:
    """A context map with a presence gate for every name of every concept.

    Args:
        whitened: rows that move, in the coordinates where a change costs 1.
        moves: how far each of them goes.
        B: their filters, as in a context map.
        owners: concept of each row.
        weights: of each row when its concept is fully present.
        filters: one presence filter per name.
        shut: presence up to which nothing happens, per name.
        open: presence from which the whole edit happens, per name.
        filter_owners: concept of each name.
        concepts: identifiers.
    """

    whitened: Float[Tensor, "free edits"]
    moves: Float[Tensor, "edits width"]
    B: Float[Tensor, "width edits"]
    owners: Int[Tensor, " edits"]
    weights: Float[Tensor, " edits"]
    filters: Float[Tensor, "width names"]
    shut: Float[Tensor, " names"]
    open: Float[Tensor, " names"]
    filter_owners: Int[Tensor, " names"]
    concepts: tuple[str, ...]

    @property
    def width(self) -> int:
        """Length of one context row."""
        return self.filters.shape[0]

    @property
    def overlapping(self) -> tuple[str, ...]:
        """Concepts that some text to be kept resembles as much as their own sentences do."""
        bad = self.filter_owners[self.open <= self.shut].tolist()
        return tuple(self.concepts[concept] for concept in sorted(set(bad)))

    def presence(
        self, contexts: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch names"]:
        """How much of each name a prompt contains: about 1 for the name by itself."""
        return (contexts.to("cpu", torch.float64) @ self.filters).amax(1)

    def gates(
        self, contexts: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch concepts"]:
        """Per concept, 0 shut to 1 open; the most present of its names decides."""
        if contexts.ndim != 3 or contexts.shape[-1] != self.width:
            raise BadInput(
                f"A gated map needs whole contexts (batch, tokens, {self.width}); "
                f"given {tuple(contexts.shape)}."
            )
        ramp = (self.open - self.shut).clamp_min(1e-6)
        per_name = ((self.presence(contexts) - (self.open - ramp)) / ramp).clamp(0, 1)
        gates = torch.zeros(contexts.shape[0], len(self.concepts), dtype=torch.float64)
        owners = self.filter_owners.expand_as(per_name)
        return gates.scatter_reduce(1, owners, per_name, "amax")

    def apply(
        self, contexts: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Move the prompts that contain a concept; the others pass through bit for bit."""
        maps = [self.map_for(gates) for gates in self.gates(contexts)]
        rows = [m.apply(c) if m.rank else c for m, c in zip(maps, contexts, strict=True)]
        return torch.stack(rows)

    def map_for(self, gates: Float[Tensor, " concepts"]) -> ContextMap:
        """The plain map that a prompt with these presences gets."""
        strength = gates[self.owners]
        active = strength > 1e-3
        here = self.whitened[:, active]
        small = here.T @ here + torch.diag(1 / (self.weights[active] * strength[active]))
        moves = self.moves[active] * strength[active, None]
        pulled = torch.cholesky_solve(moves, torch.linalg.cholesky(small))
        return ContextMap(A=pulled.T, B=self.B[:, active])
