"""What an edit needs from a model: its texts as context rows, and nothing else.

A backend gives an :class:`Encoder` for a pipeline. A model may have several **sites** where text
enters, each with its own width: ``context`` (cross- or joint attention) and, for SDXL, SD3 and
Flux, ``pooled`` (one row per text). An edit has one context map per site.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.tokens import Empty, Mode, Span, paired, rows

#: Largest relative error of rounding to bfloat16, and its standard deviation where it is even.
ROUNDING = 2.0**-9
DEVIATION = ROUNDING / 3**0.5
#: An encoder differs if one tensor's sum is this many deviations off, or the mean square is more.
FARTHEST, WIDEST = 8.0, 3.0
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


def sketch(weights: Sequence[Tensor]) -> str:
    """Two numbers per weight tensor, as text, that rounding barely moves and training does.

    Per tensor: its length, and the sum of its values with fixed signs over that length. Rounding
    every value to another precision changes that quotient by `DEVIATION` at most (in the mean
    square); training changes it by as much as it changes the weights, relatively.

    Args:
        weights: values of each tensor, the same ones every time.
    """
    numbers = []
    for values in weights:
        wide = values.detach().reshape(-1).to("cpu", torch.float64)
        places = torch.arange(wide.numel(), dtype=torch.int64)
        signs = 1 - 2 * ((places * 2654435761 >> 16) & 1).double()
        length = float(wide.norm())
        share = float((wide * signs).sum()) / length if length else 0.0
        numbers.append(struct.pack("<ef", share, length))
    return base64.b85encode(b"".join(numbers)).decode()


def same_encoder(first: str, second: str) -> bool:
    """Whether two fingerprints are of one text encoder, in whatever precision it was loaded.

    One rule: the tokenizers and the names and shapes of all weights are equal, and the weights
    differ by no more than rounding to bfloat16, the coarsest precision that models run in.
    """
    if first == second:
        return True
    ours, theirs = (text.split("/", 2) for text in (first, second))
    if len(ours) < 3 or len(theirs) < 3 or ours[1] != theirs[1]:
        return ours[0] == theirs[0]  # from before sketches: equal in float16
    numbers = [
        torch.tensor(list(struct.iter_unpack("<ef", base64.b85decode(text[2]))), dtype=torch.double)
        for text in (ours, theirs)
    ]
    (share, length), (other, size) = (found.T for found in numbers)
    # Shares are stored in float16, whose own rounding is an eighth of bfloat16's.
    apart = (share - other).abs() / (DEVIATION + ROUNDING / 4 * share.abs())
    long = (length - size).abs() <= 4 * ROUNDING * torch.maximum(length, size)
    return bool(long.all() and apart.max() <= FARTHEST and apart.square().mean() <= WIDEST)


class Encoder(Protocol):
    """Turns texts into context rows; the only thing solvers know of a model."""

    @property
    def fingerprint(self) -> str:
        """Of the text encoders and tokenizers: ``sha256:HASH/STRUCTURE/SKETCH``.

        HASH is of the weights in float16, STRUCTURE of names, shapes and vocabularies; SKETCH makes
        two precisions of one encoder the same to `same_encoder`.
        """
        ...

    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Contexts per site, exactly as the pipeline would feed them to its denoiser."""
        ...


class Remembered:
    """An encoder that reads every text once, for as long as this object lives.

    Args:
        inner: the encoder; its weights must not change meanwhile.
    """

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner
        self._known: dict[str, dict[str, tuple[Tensor, tuple[Span, ...]]]] = {}

    @property
    def fingerprint(self) -> str:
        """Of the encoder."""
        return self._inner.fingerprint

    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Contexts per site; only texts that were not read before are encoded."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            found = self._inner.encode(new)
            for row, text in enumerate(new):
                self._known[text] = {s: (e.contexts[row], e.spans[row]) for s, e in found.items()}
        rows = [self._known[text] for text in texts]
        return {
            site: Encoded(
                contexts=torch.stack([row[site][0] for row in rows]),
                spans=tuple(row[site][1] for row in rows),
            )
            for site in rows[0]
        }
