"""What a model reference names: a bundled model, a folder, or a hub id.

Loaders ask `located` for the part that they read, so a bundled name works wherever a reference
does. The package's root registers what is bundled; a folder of the same name is reached as
``./NAME``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tadasu.errors import BadFile

_BUNDLED: dict[str, tuple[Path, Mapping[str, str]]] = {}


def register(name: str, folder: Path, other: Mapping[str, str] | None = None) -> None:
    """Give a folder with one subfolder per part a name.

    Args:
        name: of the bundled models.
        folder: its subfolders are the parts.
        other: subfolders by part, where they are not called as the part is.
    """
    _BUNDLED[name] = folder, other or {}


def bundled(ref: str) -> bool:
    """Whether a reference names models that come with the library."""
    return ref in _BUNDLED


def located(ref: str, part: str) -> str:
    """Where a part of what a reference names lies.

    Args:
        ref: a bundled name, a folder or a hub id.
        part: what is read: ``pipeline``, ``clip``, ``judge``, ``vlm`` or ``evaluator``.

    Returns:
        The part's folder for a bundled name, anything else as it was given.

    Raises:
        BadFile: the bundled models have no such part; the installation is incomplete.
    """
    if ref not in _BUNDLED:
        return ref
    folder, other = _BUNDLED[ref]
    found = folder / other.get(part, part)
    if not found.is_dir():
        raise BadFile(
            f"The models called {ref!r} have no {part} in {folder}; install the package again."
        )
    return str(found)
