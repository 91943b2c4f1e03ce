"""Which files of the given paths are shared models or adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tadasu.errors import BadFile, shown

#: Endings of files that people share; anything else in a folder is left alone.
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def files(paths: Sequence[str | Path]) -> list[Path]:
    """The files to examine, in a stable order, each once.

    Files that are named are taken whatever their ending; folders are searched. Links inside
    folders are listed as well, so that the reader can refuse them where everybody sees it, but
    linked folders are not entered.

    Raises:
        BadFile: a path that is not there.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in ENDINGS)
            found.update(dict.fromkeys(each for each in inside if not each.is_dir()))
        elif path.exists() or path.is_symlink():
            found[path] = None
        else:
            raise BadFile(f"There is no file or folder {shown(path, 300)}.")
    return list(found)
