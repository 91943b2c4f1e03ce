"""Textual-inversion embeddings in pictures: A1111 writes one into a text chunk of a PNG.

Only the text chunk ``sd-ti-embedding`` is read (base64 of JSON); the picture itself never is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tadasu.auditing.containers.file import Limits, PlainFile, Stored, TensorFile, finite
from tadasu.errors import BadFile

PNG = b"\x89PNG\r\n\x1a\n"
KEYWORD = b"sd-ti-embedding"
#: Most chunks that are looked at; the text comes before the picture.
MOST_CHUNKS = 1000


@dataclass(frozen=True, kw_only=True)
class PictureFile(TensorFile):
    """The tensors of a picture's text chunk."""

    plain: PlainFile
    stored: dict[str, Stored]
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    container: str = "png"

    def get(self, name: str) -> Tensor:
        """One tensor."""
        return finite(self.tensors[name], name)


def read_png(plain: PlainFile, limits: Limits) -> PictureFile:
    """Find the chunk and parse it.

    Raises:
        BadFile: when the picture carries no embedding, or a damaged one.
    """
    text = next((data for data in _chunks(plain, limits) if data.startswith(KEYWORD + b"\0")), None)
    if text is None:
        raise BadFile("It is a picture without an embedding in its text.")
    try:
        document = json.loads(base64.b64decode(text[len(KEYWORD) + 1 :], validate=True))
        found = {
            f"string_to_param.{key}": torch.tensor(value["TORCHTENSOR"], dtype=torch.float32)
            for key, value in document["string_to_param"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError) as error:
        raise BadFile("The embedding in the picture's text is damaged.") from error
    stored = {
        name: Stored(shape=tuple(tensor.shape), dtype=tensor.dtype, offset=0, length=0)
        for name, tensor in found.items()
    }
    name = document.get("name")
    metadata = {"name": name} if isinstance(name, str) else {}
    return PictureFile(plain=plain, stored=stored, tensors=found, metadata=metadata)


def _chunks(plain: PlainFile, limits: Limits) -> Iterator[bytes]:
    """The data of every tEXt chunk."""
    at = len(PNG)
    for _ in range(MOST_CHUNKS):
        if at + 12 > plain.size:
            return
        head = plain.read(at, 8)
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"tEXt":
            if length > limits.header:
                raise BadFile(f"Its text has {length:,} bytes; at most {limits.header:,} are read.")
            yield plain.read(at + 8, length)
        at += 12 + length
