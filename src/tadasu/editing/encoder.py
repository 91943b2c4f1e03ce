"""What an edit needs from a model: its texts as context rows, and nothing else.

A backend gives an :class:`Encoder` for a pipeline. A model may have several **sites** where text
enters, each with its own width: ``context`` (cross- or joint attention) and, for SDXL, SD3 and
Flux, ``pooled`` (one row per text). An edit has one context map per site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.tokens import Empty, Mode, Span, paired, rows

POOLED = Span(first=0, last=0, end=0, length=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """Contexts of several texts at one site.

    Args:
        contexts: the rows the model's projections read.
        spans: per text, where its words are; more than one span where encoders are joined.
    """

    contexts: Float[Tensor, "texts tokens width"]
    spans: tuple[tuple[Span, ...], ...]

    def rows(
        self, text: int, where: tuple[Span, ...], mode: Mode, *, empty: Empty = "eot"
    ) -> Float[Tensor, "chosen width"]:
        """The rows of one text that stand for what lies at ``where``, in float64."""
        chosen = [row for part in where for row in rows(part, mode, empty=empty)]
        return self.contexts[text, chosen].to(torch.float64)

    def pairs(
        self,
        source: tuple[int, tuple[Span, ...]],
        target: tuple[int, tuple[Span, ...]],
        mode: Mode,
        *,
        empty: Empty = "eot",
    ) -> tuple[Float[Tensor, "chosen width"], Float[Tensor, "chosen width"]]:
        """Rows of one text and the rows of another that they are sent to, in float64."""
        found = [
            pair
            for ours, theirs in zip(source[1], target[1], strict=True)
            for pair in paired(ours, theirs, mode, empty=empty)
        ]
        here, there = [ours for ours, _ in found], [theirs for _, theirs in found]
        moved, goals = self.contexts[source[0], here], self.contexts[target[0], there]
        return moved.to(torch.float64), goals.to(torch.float64)


class Encoder(Protocol):
    """Turns texts into context rows; the only thing solvers know of a model."""

    @property
    def fingerprint(self) -> str:
        """Content hash of the text encoders and tokenizers, as ``sha256:…``."""
        ...

    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Contexts per site, exactly as the pipeline would feed them to its denoiser."""
        ...
