"""Steer inside attention layers, for rules whose ``needs`` is ``"attention"``.

Two kinds of models:

- **cross** attention (U-Nets): the layer runs a second time with the concept's context under the
  same queries; only these layers cost more.
- **joint** attention (Flux, SD3, Qwen-Image): text changes from block to block, so the concept's
  text runs as a row of its own. Its image tokens are set to the prompt row's after every attention
  layer, so both rows ask with the same queries, as the method wants.

Everything is taken off again when the ``with`` block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tadasu.guidance.nag import NormalizedAttentionGuidance


@contextmanager
def cross_attention(
    denoiser: Any,
    rule: NormalizedAttentionGuidance,
    images: Sequence[int],
    contexts: Tensor,
    weights: Tensor,
) -> Iterator[None]:
    """Every cross-attention layer also attends to the concepts.

    Args:
        denoiser: a U-Net.
        rule: how to combine both outputs.
        images: rows that some concept concerns.
        contexts: the concepts' context for each of these rows.
        weights: strength for each of these rows.
    """
    layers = [module for name, module in denoiser.named_modules() if name.endswith("attn2")]
    kept = [(layer, "forward" in vars(layer), layer.forward) for layer in layers]
    try:
        for layer, _, original in kept:
            layer.forward = _steered(layer, original, rule, list(images), contexts, weights)
        yield
    finally:
        for layer, had, original in kept:
            if had:
                layer.forward = original
            else:
                del layer.forward


def _steered(
    layer: Any,
    original: Callable[..., Tensor],
    rule: NormalizedAttentionGuidance,
    images: list[int],
    contexts: Tensor,
    weights: Tensor,
) -> Callable[..., Tensor]:
    """One layer's forward; outputs are combined before the layer's output projection."""

    def forward(
        hidden_states: Tensor, encoder_hidden_states: Any = None, **settings: Any
    ) -> Tensor:
        if encoder_hidden_states is None:
            return original(hidden_states, **settings)
        caught: list[Tensor] = []
        watch = layer.to_out[0].register_forward_pre_hook(
            lambda module, given: caught.append(given[0])
        )
        try:
            own = _conditioned(encoder_hidden_states, contexts, images)
            original(hidden_states[images], encoder_hidden_states=own, **settings)
        finally:
            watch.remove()

        def combine(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            rows = given[0].clone()
            rows[images] = rule.combine(rows[images], caught[0], weights)
            return (rows, *given[1:])

        change = layer.to_out[0].register_forward_pre_hook(combine)
        try:
            return original(hidden_states, encoder_hidden_states=encoder_hidden_states, **settings)
        finally:
            change.remove()

    return forward


def _conditioned(given: Any, contexts: Tensor, images: list[int]) -> Any:
    """What a layer attends to, with other texts; IP-Adapters' pictures beside them stay."""
    if isinstance(given, Tensor):
        return contexts.to(given)
    text, pictures = given
    return contexts.to(text), [picture[images] for picture in pictures]


@contextmanager
def joint_attention(
    denoiser: Any,
    rule: NormalizedAttentionGuidance,
    images: Sequence[int],
    count: int,
    tokens: int,
    weights: Tensor,
) -> Iterator[None]:
    """Every joint attention layer combines the prompt's row with the concept's.

    Args:
        denoiser: a transformer whose rows are the images' followed by one per concerned image.
        rule: how to combine both outputs.
        images: rows that some concept concerns, in the order of the rows after the images'.
        count: number of images.
        tokens: number of image tokens.
        weights: strength for each concerned row.
    """
    chosen = list(images)

    def steer(first: Tensor) -> Tensor:
        first = first.clone()
        view = first[:, -tokens:]  # text tokens, where they are in one sequence, come first
        steered = rule.combine(view[chosen], view[count:], weights)
        view[chosen] = steered
        view[count:] = steered
        return first

    def before(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (steer(given[0]), *given[1:])

    def after(module: Any, given: Any, output: Any) -> Any:
        return (steer(output[0]), *output[1:]) if isinstance(output, tuple) else steer(output)

    layers = [
        module for name, module in denoiser.named_modules() if name.endswith(("attn", "attn2"))
    ]
    # As the authors' code does, before the output projection of the image's tokens; a layer whose
    # projection is not its own (Flux's single blocks) is steered where its output leaves it.
    handles = [
        layer.to_out[0].register_forward_pre_hook(before)
        if isinstance(getattr(layer, "to_out", None), torch.nn.ModuleList)
        else layer.register_forward_hook(after)
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
