"""The edit file: safetensors with a JSON header, a few kilobytes, nothing in it is executed.

The header holds the recipe, the concepts, the text encoder's fingerprint, the tool's version and a
SHA-256 over everything else, so a file that was changed afterwards is refused. A companion
``.evidence.json`` repeats the self-check for people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tadasu import __version__, files
from tadasu.editing.context_map import ContextMap
from tadasu.editing.edit import Edit, Map
from tadasu.editing.gated_map import GatedMap
from tadasu.editing.layer_map import LayerMap
from tadasu.errors import BadFile, BadInput, shown

FORMAT = "tadasu-edit/1"
LARGEST_FILE = 1 << 30
LARGEST_HEADER = 16 << 20
#: The site whose map is one more layer of the text encoder.
LAYER = "layer"


def save(edit: Edit, path: str | Path) -> None:
    """Write one edit file and its evidence beside it.

    Raises:
        BadInput: when the name does not end in ``.safetensors``.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"An edit file ends in .safetensors; given {shown(path.name)}.")
    tensors = {
        f"{site}.{name}": value.contiguous()
        for site, edit_map in edit.maps.items()
        for name, value in _tensors(edit_map).items()
    }
    header = {
        "name": edit.name,
        "concepts": list(edit.concepts),
        "recipe": dict(edit.recipe),
        "encoder": edit.fingerprint,
        "evidence": dict(edit.evidence),
        "version": __version__,
    }
    written = json.dumps(header, sort_keys=True, ensure_ascii=False, allow_nan=False)
    about = {"format": FORMAT, "edit": written, "sha256": _digest(written, tensors)}
    files.save_tensors(path, tensors, about)
    evidence = json.dumps(edit.evidence, indent=2, ensure_ascii=False, sort_keys=True)
    path.with_suffix(".evidence.json").write_text(evidence + "\n", encoding="utf-8")


def load(path: str | Path) -> Edit:
    """Read an edit file.

    Raises:
        BadFile: when it is missing, too large, damaged, of another kind, or was changed after it
            was written.
    """
    path = Path(path)
    about, tensors = _read(path)
    if about.get("format") != FORMAT:
        raise BadFile(f"{shown(path)} is no edit file ({FORMAT}).")
    written = about.get("edit", "")
    if _digest(written, tensors) != about.get("sha256"):
        raise BadFile(
            f"{shown(path)} was changed after it was written; refuse it or make it again."
        )
    try:
        header = json.loads(written)
        sites = dict.fromkeys(name.rsplit(".", 1)[0] for name in sorted(tensors))
        concepts = tuple(str(name) for name in header["concepts"])
        return Edit(
            name=str(header["name"]),
            maps={site: _map(site, tensors, concepts) for site in sites},
            concepts=concepts,
            recipe=header["recipe"],
            fingerprint=str(header["encoder"]),
            evidence=header["evidence"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{shown(path)} is damaged: {error}") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise BadFile(f"Cannot read {shown(path)}: {error}") from error
    if size > LARGEST_FILE or header > LARGEST_HEADER:
        raise BadFile(f"{shown(path)} is larger than any edit ({size:,} bytes); it was not read.")
    try:
        with safe_open(str(path), framework="pt") as opened:
            about: dict[str, str] = opened.metadata() or {}
            names = list(opened.keys())
            return about, {name: opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise BadFile(f"Cannot read {shown(path)}: {error}") from error


def _tensors(edit_map: Map) -> dict[str, Tensor]:
    if isinstance(edit_map, ContextMap):
        # Single precision where it holds the factors exactly, as it does for every solved edit.
        pair = {"A": edit_map.A, "B": edit_map.B}
        thin = {name: value.float() for name, value in pair.items()}
        exact = all(torch.equal(thin[name].double(), value) for name, value in pair.items())
        return thin if exact else pair
    found = {part.name: getattr(edit_map, part.name) for part in fields(edit_map)}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _map(site: str, tensors: Mapping[str, Tensor], concepts: tuple[str, ...]) -> Map:
    parts: dict[str, Any] = {
        name.rsplit(".", 1)[1]: value
        for name, value in tensors.items()
        if name.rsplit(".", 1)[0] == site
    }
    if any(not bool(torch.isfinite(value.double()).all()) for value in parts.values()):
        raise BadFile(f"The {site} map holds values that are not finite.")
    if set(parts) == {"A", "B"}:
        return ContextMap(**parts)
    if site == LAYER:
        return LayerMap(concepts=concepts, **parts)
    return GatedMap(concepts=concepts, **parts)


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
