"""A change of text rows that acts only on rows that carry a concept: what ``layer`` solves for.

Each gate looks at one row of the text encoder's last layer. Two rectified neurons make its ramp, so
the whole map is one feed-forward block, and a text encoder with one more layer computes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import layer_norm

from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerMap:
    """Gates on normalised rows, and what each adds to the row when it is open.

    Args:
        filters: one gate per column, read from the row after its mean and length are normalised.
        shut: filter value up to which a gate adds nothing.
        open: filter value from which it adds its whole move.
        moves: what an open gate adds to the row.
        owners: concept of each gate.
        margins: how far the concept's own rows lie above everything that was to be kept; below 0
            the gate opens for some of it as well.
        concepts: identifiers.

    Raises:
        BadInput: when the parts do not fit each other or a gate has no ramp.
    """

    filters: Float[Tensor, "width gates"]
    shut: Float[Tensor, " gates"]
    open: Float[Tensor, " gates"]
    moves: Float[Tensor, "gates width"]
    owners: Int[Tensor, " gates"]
    margins: Float[Tensor, " gates"]
    concepts: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the parts once."""
        gates = self.filters.shape[1]
        if self.moves.shape != (gates, self.width) or self.shut.shape != self.open.shape:
            raise BadInput("Filters and moves of a layer map do not fit each other.")
        if not bool((self.open > self.shut).all()):
            raise BadInput("A gate of a layer map has no ramp: it opens before it is shut.")

    @property
    def width(self) -> int:
        """Length of one row."""
        return self.filters.shape[0]

    @property
    def gates(self) -> int:
        """How many there are."""
        return self.filters.shape[1]

    @property
    def overlapping(self) -> tuple[str, ...]:
        """Concepts that some text to be kept resembles as much as their own sentences do."""
        bad = self.owners[self.margins <= 0].tolist()
        return tuple(self.concepts[concept] for concept in sorted(set(bad)))

    def gated(self, rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch gates"]:
        """How far each gate is open for each row, 0 to 1."""
        if rows.shape[-1] != self.width:
            raise BadInput(
                f"This map is for rows of width {self.width}; given width {rows.shape[-1]}. "
                "It was made for another text encoder."
            )
        seen = layer_norm(rows.to("cpu", torch.float64), (self.width,)) @ self.filters
        opened: Tensor = ((seen - self.shut) / (self.open - self.shut)).clamp(0, 1)
        return opened

    def delta(self, rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """What is added to each row, in float64."""
        return self.gated(rows) @ self.moves

    def apply(self, rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Move the rows that carry a concept."""
        moved: Tensor = (rows.to("cpu", torch.float64) + self.delta(rows)).to(rows)
        return moved

    def neurons(
        self, sharpness: float = 256.0
    ) -> tuple[Float[Tensor, "neurons width"], Tensor, Float[Tensor, "width neurons"]]:
        """The feed-forward block: weights in, biases, weights out.

        A rectifier is any of the usual activations seen from afar: ``ramp(z) = r(z - shut) -
        r(z - open)``, each over ``open - shut``, with ``r(z) ≈ act(s z) / s``.

        Args:
            sharpness: how many units of the activation a ramp is long; larger is closer to a
                corner.
        """
        scale = sharpness / (self.open - self.shut)
        into = (self.filters * scale).T
        # The two neurons of a gate stand side by side, so that no layer boundary parts them.
        weights = torch.stack([into, into], 1).flatten(0, 1)
        biases = -torch.stack([self.shut * scale, self.open * scale], 1).flatten()
        out = torch.stack([self.moves, -self.moves], 1).flatten(0, 1).T / sharpness
        return weights, biases, out
