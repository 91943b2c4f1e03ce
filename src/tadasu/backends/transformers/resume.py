"""Going on from a key-value cache, only where it is proven to give what reading again gives.

`generate` changes a cache in place, so every branch works on its own copy of the layers. The
tensors themselves are shared: a dynamic layer replaces them when it grows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tadasu.backends.transformers.conversation import Conversation, common_length

if TYPE_CHECKING:
    import torch

#: How far two ways to the same logits may lie apart, as a share of the logits' range.
TOLERANCE_FULL, TOLERANCE_HALF = 1e-3, 3e-2
GROWING_LAYERS = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Where an answer can be gone on with.

    Attributes:
        conversation: what is being answered.
        ids: all tokens so far, of the conversation and of the answer.
        text: the answer so far.
        cache: keys and values of several rows.
        row: which row is this one.
        covered: how many of the tokens stand in the cache.
    """

    conversation: Conversation
    ids: list[int]
    text: str
    cache: Any
    row: int
    covered: int


def branch(state: State, ids: list[int], rows: int) -> tuple[Any, int]:
    """A cache of its own for going on from a state, and how many tokens it covers.

    Args:
        state: where to go on from.
        ids: the tokens to go on with; those that differ from the state's are read again.
        rows: how many continuations there will be.
    """
    import torch

    length = min(common_length(state.ids[: state.covered], ids), len(ids) - 1)
    cache = copy.copy(state.cache)
    cache.layers = [copy.copy(layer) for layer in state.cache.layers]
    first = cache.layers[0].keys
    cache.batch_select_indices(torch.full((rows,), state.row, device=first.device))
    surplus = int(cache.get_seq_length()) - length
    if surplus:
        cache.crop(-surplus)
    return cache, length


def grows(cache: Any) -> bool:
    """Whether all layers of a cache are of a kind that branching is known to be right for."""
    layers = getattr(cache, "layers", None) or [None]
    return all(type(layer).__name__ in GROWING_LAYERS for layer in layers)


def window(config: Any) -> int | None:
    """After how many tokens the model forgets; its cache cannot be cut back beyond that."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or []
    size = getattr(text, "sliding_window", None)
    slides = any(kind != "full_attention" for kind in kinds) or (not kinds and size)
    return int(size) if slides and size else None


def positions_are_plain(model: Any) -> bool:
    """Whether positions follow from the number of tokens alone (not with mRoPE)."""
    text = model.config.get_text_config()
    for name in ("rope_parameters", "rope_scaling"):
        if "mrope" in str(getattr(text, name, None)):
            return False
    return not any(hasattr(part, "rope_deltas") for part in model.modules())


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two rows of logits are equal up to rounding, and choose the same token."""
    import torch

    tolerance = TOLERANCE_FULL if first.dtype == torch.float32 else TOLERANCE_HALF
    a, b = first.float(), second.float()
    near = (a - b).abs().max() <= tolerance * (a.max() - a.min())
    return bool(near) and int(a.argmax()) == int(b.argmax())
