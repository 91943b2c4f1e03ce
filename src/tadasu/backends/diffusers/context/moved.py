"""Edits at run time: the text context is moved at the denoiser's door, once per call.

Every layer that reads text gets the denoiser's own argument, so moving that argument is moving what
they all read, whether they were fused, compiled, wrapped by a LoRA or have their weights elsewhere.
A layer map acts in the text encoder, which has one more layer while it encodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tadasu.backends.diffusers.context.layer import inserted
from tadasu.editing.layer_map import LayerMap
from tadasu.errors import RunFailed

#: Where a site's rows are among a denoiser's arguments; the first that a call has counts.
PLACES = {
    "context": ("encoder_hidden_states",),
    "pooled": ("added_cond_kwargs.text_embeds", "pooled_projections"),
}


class Movable(Protocol):
    """A context map, plain or gated."""

    @property
    def width(self) -> int:
        """Length of one context row."""
        ...

    def apply(self, contexts: Tensor) -> Tensor:
        """Move context rows."""
        ...


Maps = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Moves:
    """What edits did in one call of a pipeline, taken from what ran.

    Attributes:
        sites: where they acted: ``context``, ``pooled``, ``layer``.
        calls: calls of the denoiser whose text they moved.
        encoded: calls of the text encoder that had one more layer.
        pictures: per picture, how far its text was moved: the largest length of a change over the
            length of what was there, over sites and prompt; 0 where an edit had nothing to do.
            Empty for edits that act in the text encoder alone.
    """

    sites: tuple[str, ...]
    calls: int
    encoded: int
    pictures: tuple[float, ...]

    def of(self, place: int) -> dict[str, Any]:
        """What was done for one picture, as a record stores it."""
        shares = self.pictures[place : place + 1]
        return {
            "sites": list(self.sites),
            "calls": self.calls,
            "encoded": self.encoded,
            "moved": shares[0] if shares else None,
        }


class Mover:
    """Applies edits to the calls of one run, or of a block outside runs.

    Args:
        pipe: the pipeline.
        edits: maps per site; several are applied in the order given.
    """

    def __init__(self, pipe: Any, edits: Sequence[Maps]) -> None:
        self._pipe = pipe
        self.layers = [m for maps in edits for m in maps.values() if isinstance(m, LayerMap)]
        self.chains: dict[str, list[Movable]] = {}
        for maps in edits:
            for site, edit in maps.items():
                if not isinstance(edit, LayerMap):
                    self.chains.setdefault(site, []).append(edit)
        self._last: dict[str, tuple[Tensor, Tensor]] = {}
        self._changes: list[Tensor] = []
        self.calls = self.encoded = 0

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.layers or self.chains)

    def move(self, arguments: Mapping[str, Any], own: int | None = None) -> dict[str, Any]:
        """The denoiser's arguments with the text moved.

        Args:
            arguments: by name.
            own: how many of the rows are the pipeline's own; the rest are a rule's.

        Raises:
            RunFailed: the call has no such argument, or of another width.
        """
        moved = dict(arguments)
        for site in self.chains:
            place = next((p for p in PLACES[site] if _read(moved, p) is not None), None)
            if place is None:
                raise RunFailed(
                    f"The denoiser was called without {' or '.join(PLACES[site])}, so the edit of "
                    f"the {site} could not act and the picture is withheld."
                )
            given = _read(moved, place)
            result = self.rows(site, given)
            if not self.calls:
                self._changes.append(_change(given[:own], result[:own]))
            moved = _written(moved, place, result)
        self.calls += 1
        return moved

    def rows(self, site: str, given: Tensor) -> Tensor:
        """Rows of a site, moved; the same tensor gives the same result again."""
        chain = self.chains.get(site)
        if not chain:
            return given
        if site in self._last and self._last[site][0] is given:
            return self._last[site][1]
        if given.shape[-1] != chain[0].width:
            raise RunFailed(
                f"The denoiser's {site} has width {given.shape[-1]}, the edit's map "
                f"{chain[0].width}; the edit could not act, so the picture is withheld."
            )
        # A pooled site arrives as (batch, width); a map wants (batch, tokens, width).
        rows = given if given.ndim == 3 else given[:, None]
        for edit in chain:
            rows = edit.apply(rows).to(rows.device)
        result: Tensor = rows.reshape(given.shape)
        self._last[site] = given, result
        return result

    def encode(self, plain: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One call of the text encoder, with its further layers."""
        with ExitStack() as stack:
            for edit in self.layers:
                stack.enter_context(inserted(self._pipe, edit))
            answer = plain(*args, **kwargs)
        self.encoded += 1
        return answer

    def check(self) -> None:
        """Refuse a run in which an edit of the text encoder met no text.

        Raises:
            RunFailed: the pipeline's call brought embeddings.
        """
        if self.layers and not self.encoded:
            raise RunFailed(
                "The edit acts in the text encoder, which this call never used: the prompt came as "
                "embeddings. Give the prompt as text; the picture is withheld."
            )

    def record(self, pictures: int) -> Moves:
        """What was done so far.

        Args:
            pictures: how many pictures the run makes.
        """
        sites = (*self.chains, *(("layer",) if self.layers else ()))
        found: list[float] = []
        if self._changes and pictures:
            largest = torch.stack([change.float().cpu() for change in self._changes]).amax(0)
            if len(largest) % pictures == 0:
                found = largest.reshape(-1, pictures).amax(0).tolist()
        return Moves(sites=sites, calls=self.calls, encoded=self.encoded, pictures=tuple(found))


def _change(before: Tensor, after: Tensor) -> Tensor:
    """Per row of a batch, how far it was moved, relative to its length."""
    apart: Tensor = (after.detach().float() - before.detach().float()).flatten(1).norm(dim=1)
    length: Tensor = before.detach().float().flatten(1).norm(dim=1).clamp_min(1e-12)
    return apart / length


def _read(arguments: Mapping[str, Any], place: str) -> Any:
    found: Any = arguments
    for name in place.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _written(arguments: Mapping[str, Any], place: str, value: Tensor) -> dict[str, Any]:
    name, _, inner = place.partition(".")
    return {**arguments, name: _written(arguments[name], inner, value) if inner else value}
