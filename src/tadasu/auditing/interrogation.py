"""Which words a file taught the text encoder: every token, with the file and without.

The idea is that of ``lora_interrogator.py`` in kohya's sd-scripts: each token of the vocabulary is
read by itself, ``[begin] token [end]``, and tokens are ranked by how far their state moves. Where
we depart: a file that moves everything moves every token, so the distance is divided by the median
token's; what stands far above it is a likely trigger word. Only files with a text encoder have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: (ids, with the file's weights?) to the states of the middle token.
States = Callable[[Int[Tensor, "token 3"], bool], Float[Tensor, "token width"]]


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A token that a file moved.

    Attributes:
        token: as the tokenizer writes it, without its end mark.
        times: how much further than the median token.
    """

    token: str
    times: float


def triggers(
    tokens: Sequence[str], ids: Int[Tensor, "token 3"], states: States, *, most: int = 20
) -> tuple[Trigger, ...]:
    """The tokens that moved furthest, the furthest first.

    Args:
        tokens: the vocabulary, in the order of the rows.
        ids: ``[begin] token [end]`` of each.
        states: reads them with and without the file.
        most: at most so many.

    Returns:
        Nothing where the file moves no token.
    """
    moved = (states(ids, True).float() - states(ids, False).float()).abs().mean(1)
    median = float(moved.median())
    if float(moved.max()) == 0:
        return ()
    order = torch.argsort(moved, descending=True, stable=True)[:most]
    scale = max(median, 1e-12)
    return tuple(
        Trigger(token=tokens[int(at)].removesuffix("</w>"), times=float(moved[at]) / scale)
        for at in order
        if float(moved[at]) > 0
    )
