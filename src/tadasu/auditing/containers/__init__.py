"""Containers: how tensors lie in a stranger's file. Told by content, never by the file's ending.

Nothing here executes what a file says, maps it into memory or unpacks compressed data: lengths are
checked against the file's size first, and tensors are read one by one with ordinary reads.
"""

from __future__ import annotations

from pathlib import Path

from tadasu.auditing.containers import kinds
from tadasu.auditing.containers.file import Limits, PlainFile, TensorFile
from tadasu.auditing.containers.png import PNG, read_png
from tadasu.auditing.containers.safetensors import SafetensorsFile
from tadasu.auditing.containers.scaled import unscaled
from tadasu.auditing.containers.torchzip import ZIP, TorchZipFile
from tadasu.errors import BadFile

__all__ = ["Limits", "PlainFile", "TensorFile", "open_file"]


def open_file(path: str | Path, limits: Limits | None = None) -> TensorFile:
    """Check a file's structure and list its tensors; no tensor is read yet.

    Args:
        path: a safetensors file, a zip of torch (``.pt``, ``.ckpt``, ``.bin``) or a picture that
            carries a textual-inversion embedding.
        limits: what is too much.

    Raises:
        BadFile: with the one reason why the file is not read.
    """
    limits = limits or Limits()
    plain = PlainFile.open(Path(path), limits)
    start = plain.read(0, min(plain.size, kinds.LOOKED_AT))
    if start.startswith(ZIP):
        return unscaled(TorchZipFile.open(plain, limits))
    if start.startswith(PNG):
        return read_png(plain, limits)
    known = kinds.named(start)
    if known:
        raise BadFile(known)
    return unscaled(SafetensorsFile.open(plain, limits))
