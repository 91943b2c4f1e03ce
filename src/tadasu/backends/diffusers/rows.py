"""Give a denoiser's call more rows: the same latents, conditioned on other texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tadasu.backends.diffusers.families import Family
from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prediction that a rule asked for.

    Attributes:
        source: the row of the pipeline's own call whose latents it shares.
        target: where it is written: a row of the call that it replaces, or None to append it.
        conditioning: what it is conditioned on, per argument of the denoiser.
    """

    source: int
    target: int | None
    conditioning: Mapping[str, Tensor]


def extend(arguments: Mapping[str, Any], rows: Sequence[Row], family: Family) -> dict[str, Any]:
    """The denoiser's arguments with rows appended or replaced.

    Args:
        arguments: the denoiser's arguments by name.
        rows: what to append or replace.
        family: which arguments have a batch axis.

    Raises:
        BadInput: a conditioning does not fit the pipeline's own.
    """
    count = len(arguments[family.sample])
    index = [*range(count), *(row.source for row in rows if row.target is None)]
    extended = {}
    for name, value in arguments.items():
        if name in family.shared:
            extended[name] = value
        elif name in family.listed and isinstance(value, list | tuple):
            extended[name] = [value[at] for at in index]
        else:
            extended[name] = _select(value, index, count)
    given = [row.conditioning for row in rows]
    if family.masked:
        given = _padded(extended, given, *family.masked)
    place = count
    for row, parts in zip(rows, given, strict=True):
        at = row.target
        if at is None:
            at, place = place, place + 1
        for path, conditioning in parts.items():
            _write(extended, path.split("."), at, conditioning)
    return extended


def _padded(
    arguments: dict[str, Any], given: list[Mapping[str, Tensor]], context: str, mask: str
) -> list[Mapping[str, Tensor]]:
    """Pad the call's contexts and the concepts' to one length, masked beyond their ends."""
    rows = arguments[context]
    seen = arguments.get(mask)
    if seen is None:
        seen = torch.ones(rows.shape[:2], dtype=torch.long, device=rows.device)
    longest = max([rows.shape[1], *(parts[context].shape[1] for parts in given)])

    def grown(value: Tensor) -> Tensor:
        missing = longest - value.shape[1]
        return torch.cat([value, value.new_zeros(len(value), missing, *value.shape[2:])], dim=1)

    arguments[context], arguments[mask] = grown(rows), grown(seen)
    return [{context: grown(parts[context]), mask: grown(parts[mask])} for parts in given]


def stacked(rows: Tensor | Sequence[Tensor]) -> Tensor:
    """Rows as one tensor, also from models that take and give lists of them."""
    return rows if isinstance(rows, Tensor) else torch.stack(list(rows))


def first_of(output: Any) -> Any:
    """The prediction in a denoiser's output, which is a tuple or an object with ``sample``."""
    return output[0] if isinstance(output, tuple) else output.sample


def with_first(output: Any, rows: Tensor) -> Any:
    """A denoiser's output with another prediction in it."""
    given: Tensor | list[Tensor] = rows
    if isinstance(first_of(output), list):
        given = list(rows.unbind())
    if isinstance(output, tuple):
        return (given, *output[1:])
    return dataclasses.replace(output, sample=given)


def _select(value: Any, index: list[int], count: int) -> Any:
    """The rows of every tensor with a batch axis; always a copy of those."""
    if isinstance(value, Tensor):
        if value.ndim == 0 or value.shape[0] != count:
            return value
        return value[torch.tensor(index, device=value.device)]
    if isinstance(value, Mapping):
        return {key: _select(part, index, count) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_select(part, index, count) for part in value)
    return value


def _write(arguments: dict[str, Any], path: list[str], at: int, value: Tensor) -> None:
    """Put one row's conditioning in its place."""
    *outer, last = path
    for name in outer:
        arguments = arguments[name]
    rows = arguments[last]
    if isinstance(rows, list):
        rows[at] = value[0].to(device=rows[0].device, dtype=rows[0].dtype)
        return
    if rows.shape[1:] != value.shape[1:]:
        raise BadInput(
            f"The call's {'.'.join(path)} has shape {tuple(rows.shape[1:])} per image, but the "
            f"concept's has {tuple(value.shape[1:])}. Give the prompt as text rather than as "
            "embeddings of another length."
        )
    rows[at] = value[0].to(device=rows.device, dtype=rows.dtype)
