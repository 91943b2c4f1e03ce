"""Folding edits into a model's weights, and taking them out bit for bit.

The first fold keeps a copy of the weights it touches. Every later fold or unfold is computed from
that copy, so edits can be taken out in any order, nothing accumulates rounding, and when the last
one leaves the copy itself goes back.

What others wrote into these weights meanwhile (a LoRA that was fused) is found as the difference to
what was written here, takes its place in the order of changes, and stays when an edit leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tadasu.backends.diffusers.context import layer
from tadasu.backends.diffusers.context.ports import Port, denoiser_of, ports
from tadasu.backends.diffusers.parts import parts_of
from tadasu.backends.diffusers.turn import claimed
from tadasu.backends.diffusers.weights import on_disk
from tadasu.editing.context_map import ContextMap, Folder
from tadasu.editing.layer_map import LayerMap
from tadasu.errors import BadInput, shown

Maps = Mapping[str, Any]


@dataclass(eq=False)
class _Folded:
    """What is folded into one denoiser.

    Attributes:
        originals: weights before the first fold, by path.
        written: hash of every weight as it was written last.
        history: changes in their order: names of edits, and what others added, by path.
        edits: by name.
    """

    originals: dict[str, Tensor] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    history: list[str | dict[str, Tensor]] = field(default_factory=list)
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
            does not fit, a layer is wrapped, weights lie elsewhere (sequential or disk
            offloading), or a map acts at run time only.
        RunFailed: another thread has the pipeline and does not let go.
    """
    with claimed(parts_of(pipe), run=False):
        _fold(pipe, name, maps)


def _fold(pipe: Any, name: str, maps: Maps) -> None:
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
        changed = _carried(pipe, state, {**state.edits, name: maps})
        _rewrite(pipe, state, [*changed, name], {**state.edits, name: maps})
    except BadInput:
        if layers:
            layer.remove(pipe, name)
        raise


def unfold(pipe: Any, name: str) -> None:
    """Take one folded edit out; with the last one the weights are bit for bit as before.

    What others added to the weights since, such as a fused LoRA, stays in them up to rounding.

    Raises:
        BadInput: when no edit of that name is folded in, weights lie elsewhere, or the weights were
            replaced since, so that the edit is no longer in them.
        RunFailed: another thread has the pipeline and does not let go.
    """
    with claimed(parts_of(pipe), run=False):
        _unfold(pipe, name)


def _unfold(pipe: Any, name: str) -> None:
    state = _FOLDED.get(denoiser_of(pipe))
    if state is None or name not in state.edits:
        raise BadInput(f"No edit named {shown(name)} is folded into this model.")
    changed = _carried(pipe, state, state.edits)
    if _split(state.edits[name])[1]:
        layer.remove(pipe, name)
    left = {key: maps for key, maps in state.edits.items() if key != name}
    _rewrite(pipe, state, [each for each in changed if each != name], left)


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """One weight that edits are written into.

    Attributes:
        path: of its layer.
        site: whose map it gets.
        width: how many of the layer's inputs, from the first on, are the site's.
        layer: the plain layer, also inside a LoRA's wrapper.
        parts: paths of the layers whose weights it repeats, where it is a fused projection.
    """

    path: str
    site: str
    width: int
    layer: Any
    parts: tuple[str, ...] = ()

    @property
    def weight(self) -> Tensor:
        found: Tensor = self.layer.weight.detach()
        return found


def _places(pipe: Any, edits: Mapping[str, Maps]) -> list[_Place]:
    """Every weight that some edit concerns, with the projections that were fused from them.

    Raises:
        BadInput: weights that are not in memory.
    """
    modules = dict(denoiser_of(pipe).named_modules())
    found: dict[str, _Place] = {}
    for maps in edits.values():
        for site, port in matching(pipe, _split(maps)[0]):
            own = getattr(port.layer, "base_layer", port.layer)
            found[port.path] = _Place(path=port.path, site=site, width=port.width, layer=own)
            place, _, last = port.path.rpartition(".")
            fused = modules.get(f"{place}.to_kv")
            if last in ("to_k", "to_v") and isinstance(fused, nn.Linear):
                path, parts = f"{place}.to_kv", (f"{place}.to_k", f"{place}.to_v")
                found[path] = _Place(
                    path=path, site=site, width=port.width, layer=fused, parts=parts
                )
    files = on_disk(denoiser_of(pipe))
    for each in found.values():
        _refuse_elsewhere(each, id(each.layer.weight) in files)
    return list(found.values())


def _refuse_elsewhere(place: _Place, on_disk: bool) -> None:
    if on_disk or place.weight.device.type == "meta":
        raise BadInput(
            f"The weight of {place.path} is not in memory (sequential or disk offloading), so an "
            "edit cannot be written into it or taken out. Fold and unfold without that "
            "offloading, or use the edit at run time: with edit.applied(pipe)."
        )


def _carried(pipe: Any, state: _Folded, edits: Mapping[str, Maps]) -> list[str | dict[str, Tensor]]:
    """The history with what others wrote since, if they did.

    Raises:
        BadInput: the weights were replaced; the edits are forgotten then.
    """
    added: dict[str, Tensor] = {}
    along = whole = 0.0
    folders: dict[Any, Folder] = {}
    for place in _places(pipe, edits):
        parts = [state.originals[path] for path in place.parts if path in state.originals]
        if place.path not in state.originals and len(parts) == 2:
            state.originals[place.path] = torch.cat(parts)  # fused after the first fold
        original = state.originals.get(place.path)
        now = place.weight
        if original is None or state.written.get(place.path) == _hash(now):
            continue
        was = _value(state, place, state.history, folders).to(now.device)
        apart = now.double() - was.double()
        rounding = max(torch.finfo(kind).eps for kind in (now.dtype, was.dtype))
        cast = now.dtype != original.dtype
        if not apart.any() or (cast and bool((apart.abs() <= rounding * was.double().abs()).all())):
            continue
        added[place.path] = apart.to(
            original.device, torch.promote_types(original.dtype, torch.float32)
        )
        edit = was.double() - original.to(now.device).double()
        along += float((edit * (edit + apart)).sum())
        whole += float(edit.square().sum())
    if whole and along < whole / 2:
        names = ", ".join(shown(name) for name in state.edits)
        for held in (state.edits, state.originals, state.written):
            held.clear()
        state.history.clear()
        raise BadInput(
            f"The weights were replaced after {names} was folded in, by loading others, so there "
            "is nothing to take out; it no longer counts as folded in. Fold it again if you need "
            "it."
        )
    return [*state.history, added] if added else list(state.history)


def _rewrite(
    pipe: Any,
    state: _Folded,
    history: Sequence[str | dict[str, Tensor]],
    edits: Mapping[str, Maps],
) -> None:
    """Write every weight anew from its original; nothing is written where one cannot be."""
    places = _places(pipe, {**state.edits, **edits})
    for _, port in (pair for maps in edits.values() for pair in matching(pipe, _split(maps)[0])):
        if len(edits) > len(state.edits):
            _ = port.weight  # refuses wrapped layers
    for place in places:
        state.originals.setdefault(place.path, place.weight.clone())
    new = _Folded(originals=state.originals, history=list(history), edits=dict(edits))
    folders: dict[Any, Folder] = {}
    with torch.no_grad():
        for place in places:
            place.weight.copy_(_value(new, place, new.history, folders))
    if lost := [place.path for place in places if edits and not _computes(place)]:
        for place in places:
            place.weight.copy_(_value(state, place, state.history, {}))
        raise BadInput(
            f"Layer {lost[0]} computes with other weights than it shows (some offloading or "
            "wrapping), so the edit would do nothing. Use it at run time: with edit.applied(pipe)."
        )
    state.history, state.edits = new.history, new.edits
    state.written = {place.path: _hash(place.weight) for place in places}
    if not edits:
        for held in (state.originals, state.written):
            held.clear()
        state.history.clear()


def _value(
    state: _Folded,
    place: _Place,
    history: Sequence[str | dict[str, Tensor]],
    folders: dict[Any, Folder],
) -> Tensor:
    """A weight after all changes, in the order in which they were made."""
    value = state.originals[place.path]
    for number, (edited, changes) in enumerate(_segments(history)):
        if not edited:
            for each in changes:
                if isinstance(each, dict) and place.path in each:
                    wide = value.double() + each[place.path].double()
                    value = wide.to(value.dtype)
            continue
        chain = [_split(state.edits[str(name)])[0].get(place.site) for name in changes]
        maps = [found for found in chain if found is not None]
        if not maps:
            continue
        key = (number, place.site, value.dtype, value.device)
        if key not in folders:
            folders[key] = _total(maps).folder(value.dtype, value.device)
        moved = value.clone()
        folders[key](value[:, : place.width], out=moved[:, : place.width])
        value = moved
    return value


def _segments(
    history: Sequence[str | dict[str, Tensor]],
) -> Iterator[tuple[bool, list[str | dict[str, Tensor]]]]:
    """Edits that follow each other together: their maps are one map."""
    for edited, changes in groupby(history, key=lambda each: isinstance(each, str)):
        yield edited, list(changes)


def _hash(weight: Tensor) -> int:
    return int(torch.hash_tensor(weight).view(torch.int64).item())


def _computes(place: _Place) -> bool:
    """Whether a layer, called as the model calls it, uses the weight that it shows."""
    weight = place.weight
    row = torch.linspace(-1, 1, weight.shape[1], device=weight.device).to(weight.dtype)[None]
    with torch.no_grad():
        expected = nn.functional.linear(row, weight, place.layer.bias)
        found: Tensor = place.layer(row)
    apart = (found.float() - expected.float()).norm()
    return bool(apart <= 0.02 * expected.float().norm() + 1e-6)


def _total(maps: Sequence[ContextMap]) -> ContextMap:
    result = maps[0]
    for later in maps[1:]:
        result = result.then(later)
    return result
