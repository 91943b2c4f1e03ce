"""Which files of the given paths are shared models or adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tadasu.auditing.containers import kinds
from tadasu.errors import BadFile, shown

#: Endings of files that people share; such a file is listed whatever it holds.
ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf")


def files(paths: Sequence[str | Path]) -> list[Path]:
    """The files to examine, in a stable order, each once.

    Files that are named are taken whatever they are. Folders are searched for files whose ending
    or content is that of weights, so that none is left out for its name; what cannot be read then
    says so in its own finding. Links with such an ending are listed as well, so that the reader can
    refuse them where everybody sees it, but linked folders are not entered.

    Raises:
        BadFile: a path that is not there.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found.update(dict.fromkeys(sorted(_inside(path))))
        elif path.exists() or path.is_symlink():
            found[path] = None
        else:
            raise BadFile(f"There is no file or folder {shown(path, 300)}.")
    return list(found)


def _inside(folder: Path) -> Iterator[Path]:
    for each in folder.rglob("*"):
        if each.is_symlink():
            if each.suffix.lower() in ENDINGS and not each.is_dir():
                yield each
        elif each.is_file() and (each.suffix.lower() in ENDINGS or _is_model(each)):
            yield each


def _is_model(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return kinds.is_model(file.read(kinds.LOOKED_AT), os.fstat(file.fileno()).st_size)
    except OSError:
        return False
