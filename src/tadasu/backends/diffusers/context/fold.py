"""Folding edits into a model's weights, and taking them out bit for bit.

The first fold keeps a copy of the weights it touches. Every later fold or unfold is computed from
that copy, so edits can be taken out in any order, nothing accumulates rounding, and when the last
one leaves the copy itself goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tadasu.backends.diffusers.context import layer
from tadasu.backends.diffusers.context.ports import Port, denoiser_of, ports
from tadasu.editing.context_map import ContextMap, Folder
from tadasu.editing.layer_map import LayerMap
from tadasu.errors import BadInput, shown

Maps = Mapping[str, Any]


@dataclass(eq=False)
class _Folded:
    """What is folded into one denoiser."""

    originals: dict[str, Tensor] = field(default_factory=dict)
    edits: dict[str, Maps] = field(default_factory=dict)


_FOLDED: WeakKeyDictionary[nn.Module, _Folded] = WeakKeyDictionary()


def fold(pipe: Any, name: str, maps: Maps) -> None:
    """Write an edit into the weights of a pipeline's denoiser, or into its text encoder.

    Args:
        pipe: any supported pipeline.
        name: by which the edit is taken out again.
        maps: per site a context map, or the map of one more layer of the text encoder.

    Raises:
        BadInput: before anything is written, when the name is taken, a site is unknown, a width
            does not fit, a layer is wrapped, or a map acts at run time only.
    """
    state = _FOLDED.setdefault(denoiser_of(pipe), _Folded())
    if name in state.edits:
        raise BadInput(f"An edit named {shown(name)} is already folded in; unfold it first.")
    for site, found in maps.items():
        if not isinstance(found, ContextMap | LayerMap):
            raise BadInput(
                f"The {site} map of {shown(name)} acts only where its concepts are present, which "
                "no weight can. Use it at run time, or solve it again with a folded solver."
            )
    linear, layers = _split(maps)
    matching(pipe, linear)
    for edit in layers:
        layer.add(pipe, name, edit)
    try:
        _rewrite(pipe, state, {**state.edits, name: maps})
    except BadInput:
        if layers:
            layer.remove(pipe, name)
        raise


def unfold(pipe: Any, name: str) -> None:
    """Take one folded edit out; with the last one the weights are bit for bit as before.

    Raises:
        BadInput: when no edit of that name is folded in.
    """
    state = _FOLDED.get(denoiser_of(pipe))
    if state is None or name not in state.edits:
        raise BadInput(f"No edit named {shown(name)} is folded into this model.")
    if _split(state.edits[name])[1]:
        layer.remove(pipe, name)
    _rewrite(pipe, state, {key: maps for key, maps in state.edits.items() if key != name})


def folded(pipe: Any) -> Mapping[str, Maps]:
    """Edits folded into a pipeline, the first one first."""
    state = _FOLDED.get(denoiser_of(pipe))
    return dict(state.edits) if state else {}


def _split(maps: Maps) -> tuple[dict[str, ContextMap], list[LayerMap]]:
    linear = {site: m for site, m in maps.items() if isinstance(m, ContextMap)}
    return linear, [m for m in maps.values() if isinstance(m, LayerMap)]


def matching(pipe: Any, maps: Mapping[str, Any]) -> list[tuple[str, Port]]:
    """The layers an edit concerns, with their site.

    Raises:
        BadInput: when a site is unknown to the pipeline or a width does not fit.
    """
    found = ports(pipe)
    for site, edit in maps.items():
        if site not in found:
            raise BadInput(
                f"This edit has a map for {shown(site)}, but {type(pipe).__name__} reads text at "
                f"{', '.join(found)} only. It was made for another family."
            )
        if edit.width != found[site][0].width:
            raise BadInput(
                f"The edit's {site} map has width {edit.width}, the model's is "
                f"{found[site][0].width}. It was made for another text encoder."
            )
    return [(site, port) for site in maps for port in found[site]]


def _rewrite(pipe: Any, state: _Folded, every: Mapping[str, Maps]) -> None:
    edits = {name: _split(maps)[0] for name, maps in every.items()}
    for maps in edits.values():
        for _, port in matching(pipe, maps):
            _ = port.weight
    sites = {site: port for maps in edits.values() for site, port in matching(pipe, maps)}
    touched = [(site, port) for site in sites for port in ports(pipe)[site]]
    for _, port in touched:
        state.originals.setdefault(port.path, port.weight.detach().clone())
    total = {site: _total(edits.values(), site) for site in sites}
    wanted = {port.path: (site, port) for site, port in touched}
    modules = dict(denoiser_of(pipe).named_modules())
    ready: dict[tuple[str, torch.dtype, torch.device], Folder] = {}
    with torch.no_grad():
        for path, original in state.originals.items():
            weight = modules[path].get_parameter("weight")
            weight.copy_(original)
            if path in wanted:
                site, port = wanted[path]
                key = (site, original.dtype, original.device)
                if key not in ready:
                    ready[key] = total[site].folder(original.dtype, original.device)
                ready[key](original[:, : port.width], out=weight[:, : port.width])
    state.edits = dict(every)
    if not every:
        state.originals.clear()


def _total(edits: Iterable[Mapping[str, ContextMap]], site: str) -> ContextMap:
    found = [maps[site] for maps in edits if site in maps]
    result = found[0]
    for later in found[1:]:
        result = result.then(later)
    return result
