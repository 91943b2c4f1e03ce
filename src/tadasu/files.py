"""Files that appear whole or not at all, with the permissions that a new file gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tadasu.errors import BadFile, shown

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write one safetensors file; what stood there before stays until all of it is on the disk.

    Args:
        path: of the file; its folder is made.
        tensors: by name, on any device.
        metadata: of the header.

    Raises:
        BadFile: it cannot be written; nothing of it is left behind.
    """
    from safetensors.torch import save_file

    def write(file: Path) -> None:
        plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(plain, file, metadata=dict(metadata or {}))

    return _whole(Path(path), write)


def open_to_others(path: Path) -> None:
    """Give a file, or every file of a folder, the permissions that a new file gets here.

    safetensors writes files that only their owner can read.
    """
    mask = os.umask(0)
    os.umask(mask)
    for each in path.rglob("*") if path.is_dir() else [path]:
        if each.is_file():
            each.chmod(0o666 & ~mask)


def _whole(path: Path, write: Callable[[Path], object]) -> Path:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        open_to_others(partial)
        return partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise BadFile(f"Cannot write {shown(path, 300)}: {error}.") from error
