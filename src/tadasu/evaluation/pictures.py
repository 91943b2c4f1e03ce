"""Pictures by what they are: each is stored once under the hash of its bytes."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tadasu.errors import BadFile, RunFailed, shown

if TYPE_CHECKING:
    from PIL.Image import Image


def encode(image: Image) -> bytes:
    """A picture as PNG; the same pixels always give the same bytes."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


class Pictures:
    """A folder of pictures, named by their SHA-256.

    Args:
        folder: made when the first picture is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Where the picture of a hash lies.

        Raises:
            BadFile: the name is no hash, so the record that holds it was changed.
        """
        if not re.fullmatch("[0-9a-f]{64}", name):
            raise BadFile(
                f"A record names the picture {shown(name)}; expected 64 hexadecimal digits."
            )
        return self.folder / name[:2] / f"{name}.png"

    def add(self, content: bytes) -> str:
        """Stores a PNG, whole or not at all, and gives its hash.

        Raises:
            RunFailed: it could not be written; everything stored before is kept.
        """
        name = hashlib.sha256(content).hexdigest()
        path = self.path(name)
        if self.has(name):
            return name
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            if partial.exists():
                partial.unlink()
            raise RunFailed(
                f"Cannot write {shown(path, 300)}: {error}. Everything recorded before is kept; "
                "make room and start the same run again to go on."
            ) from error
        return name

    def has(self, name: str) -> bool:
        """Whether the picture is there and is not empty."""
        path = self.path(name)
        return path.exists() and path.stat().st_size > 0

    def read(self, name: str) -> Image:
        """The picture of a hash.

        Raises:
            BadFile: it is not there, or is not what was stored.
        """
        from PIL import Image

        path = self.path(name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadFile(f"The picture {shown(path, 300)} cannot be read: {error}") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise BadFile(
                f"The picture {shown(path, 300)} is not what was stored; delete it and start the "
                "same run again to make it anew."
            )
        return Image.open(io.BytesIO(content)).convert("RGB")
