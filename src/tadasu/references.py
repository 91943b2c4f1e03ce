"""What a model reference names: a bundled model, a folder, or a hub id.

Loaders ask `located` for the part that they read, so a bundled name works wherever a reference
does. The package's root registers what is bundled; a folder of the same name is reached as
``./NAME``.
"""

from __future__ import annotations

from pathlib import Path

from tadasu.errors import BadFile

_BUNDLED: dict[str, Path] = {}


def register(name: str, folder: Path) -> None:
    """Give a folder with one subfolder per part a name.

    Args:
        name: of the bundled models.
        folder: its subfolders are the parts.
    """
    _BUNDLED[name] = folder


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
    found = _BUNDLED[ref] / part
    if not found.is_dir():
        raise BadFile(
            f"The models called {ref!r} have no {part} in {_BUNDLED[ref]}; install the package "
            "again."
        )
    return str(found)
