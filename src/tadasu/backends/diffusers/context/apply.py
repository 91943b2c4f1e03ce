"""Edits at run time: a map in front of the layers that read text, for as long as a ``with`` lasts.

Two tenants can use two edits of one model in memory, one call after the other. Nothing is written;
when the block ends the hooks are gone and pictures are the same bits as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tadasu.backends.diffusers.context.fold import matching
from tadasu.backends.diffusers.context.layer import inserted
from tadasu.editing.context_map import ContextMap
from tadasu.editing.layer_map import LayerMap


class Movable(Protocol):
    """A context map, plain or gated."""

    @property
    def width(self) -> int:
        """Length of one context row."""
        ...

    def apply(self, contexts: Tensor) -> Tensor:
        """Move context rows."""
        ...


#: Edits that act on a pipeline now, the outermost first.
_ACTING: WeakKeyDictionary[Any, list[Mapping[str, Movable]]] = WeakKeyDictionary()


@contextmanager
def applied(pipe: Any, *edits: Mapping[str, Movable]) -> Iterator[None]:
    """Let a pipeline mean something else inside the block.

    Args:
        pipe: any supported pipeline.
        edits: maps per site; several are applied in the order given.

    Raises:
        BadInput: when a site or a width does not fit; nothing is hooked then.
    """
    layers = [edit for maps in edits for edit in maps.values() if isinstance(edit, LayerMap)]
    chains: dict[str, list[Movable]] = {}
    places = {}
    for maps in edits:
        moving = {site: edit for site, edit in maps.items() if not isinstance(edit, LayerMap)}
        for site, port in matching(pipe, moving):
            places[port.path] = (site, port)
        for site, edit in moving.items():
            chains.setdefault(site, []).append(edit)
    with ExitStack() as stack:
        for edit in layers:
            stack.enter_context(inserted(pipe, edit))
        for site in chains:
            moved = _Moved(chains[site])
            for where, port in places.values():
                if where == site:
                    hook = port.layer.register_forward_pre_hook(moved.hook(port.width))
                    stack.callback(hook.remove)
        before = _ACTING.get(pipe, [])
        _ACTING[pipe] = [*before, *edits]
        stack.callback(_ACTING.__setitem__, pipe, before)
        yield


def acting(pipe: Any) -> tuple[Mapping[str, Movable], ...]:
    """The maps of the edits that act on a pipeline now at run time, the outermost first."""
    return tuple(_ACTING.get(pipe, ()))


class _Moved:
    """Moves a context once per denoiser call, however many layers read it."""

    def __init__(self, chain: list[Movable]) -> None:
        self._chain = chain
        self._given: Tensor | None = None
        self._result: Tensor | None = None

    def hook(self, width: int) -> Any:
        """A forward-pre-hook for a layer whose first ``width`` inputs are the site's."""

        def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            del layer
            return (self._move(inputs[0], width), *inputs[1:])

        return before

    def _move(self, given: Tensor, width: int) -> Tensor:
        if given is not self._given or self._result is None:
            context = given[..., :width]
            # A pooled site arrives as (batch, width); a map wants (batch, tokens, width).
            rows = context if context.ndim == 3 else context[:, None]
            for edit in self._chain:
                rows = _on_device(edit, rows)
            moved = rows.reshape(context.shape)
            rest = given[..., width:]
            self._given = given
            self._result = torch.cat([moved, rest], -1) if rest.shape[-1] else moved
        return self._result


def _on_device(edit: Movable, rows: Tensor) -> Tensor:
    """Some accelerators have no float64, so a map is applied where its factors are exact."""
    if isinstance(edit, ContextMap) and rows.device.type not in ("cpu", "cuda"):
        return edit.apply(rows.cpu()).to(rows.device)
    return edit.apply(rows).to(rows.device)
