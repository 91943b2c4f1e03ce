"""Files of ``torch.save``: a zip that holds a pickle and one uncompressed member per storage.

A pickle is a program. This one is never run: its instructions are decoded by the standard library's
disassembler and interpreted by a machine that knows containers, numbers, text and the few names
that rebuild a tensor; any other name or instruction refuses the file. What comes out are places of
tensors in the file. Zip members must be stored, not compressed: there is nothing to inflate.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

from tadasu.auditing.containers.file import (
    Limits,
    OffsetFile,
    PlainFile,
    Stored,
    checked_shape,
)
from tadasu.auditing.containers.pickle_machine import Saved, interpret
from tadasu.errors import BadFile, shown

ZIP = b"PK\x03\x04"
#: Deepest map within maps in which tensors are looked for.
DEEPEST = 6


class TorchZipFile(OffsetFile):
    """A file of ``torch.save`` whose pickle asks for nothing but tensors."""

    @classmethod
    def open(cls, plain: PlainFile, limits: Limits) -> TorchZipFile:
        """Check the zip, interpret the pickle, and list the tensors.

        Raises:
            BadFile: with the first thing that is wrong.
        """
        members = _members(plain, limits)
        program = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(program) != 1:
            raise BadFile("It is a zip, but not one that torch wrote (no single data.pkl).")
        root = program[0].removesuffix("data.pkl")
        _little_endian(plain, members, root)
        offset, length = members[program[0]]
        if length > limits.header:
            raise BadFile(f"Its pickle has {length:,} bytes; at most {limits.header:,} are read.")
        top = interpret(plain.read(offset, length), limits)
        stored: dict[str, Stored] = {}
        for name, saved in _tensors(_state(top), limits):
            checked_shape(saved.shape, name, limits)
            stored[name] = _place(name, saved, members, root)
        return cls(plain=plain, stored=stored, metadata=_texts(top), container="torch")


def _members(plain: PlainFile, limits: Limits) -> dict[str, tuple[int, int]]:
    """Offset and length of every member's bytes."""
    try:
        with zipfile.ZipFile(_Window(plain)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, struct.error, NotImplementedError) as error:
        raise BadFile("It is a damaged zip.") from error
    if len(entries) > limits.tensors:
        raise BadFile(f"Its zip has {len(entries):,} members; at most {limits.tensors:,} are read.")
    found: dict[str, tuple[int, int]] = {}
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BadFile("Its zip is compressed, which torch never does; it may be a zip bomb.")
        if entry.flag_bits & 1:
            raise BadFile("Its zip is encrypted.")
        if entry.filename in found:
            raise BadFile(f"Its zip names {shown(entry.filename)} twice.")
        local = plain.read(entry.header_offset, 30)
        if local[:4] != ZIP:
            raise BadFile("It is a damaged zip.")
        name, extra = struct.unpack("<HH", local[26:30])
        begin = entry.header_offset + 30 + name + extra
        if begin + entry.file_size > plain.size:
            raise BadFile("A part of its zip lies beyond its end; it is truncated or forged.")
        found[entry.filename] = (begin, entry.file_size)
    if sum(length for _, length in found.values()) > plain.size:
        raise BadFile("Members of its zip overlap; it may be a zip bomb.")
    return found


class _Window(io.RawIOBase):
    """A checked file as the zip reader wants it."""

    def __init__(self, plain: PlainFile) -> None:
        super().__init__()
        self._plain, self._at = plain, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self._at, self._plain.size)[whence]
        if start + offset < 0:
            raise ValueError("before the start")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._plain.size - self._at, 0)
        length = left if size is None or size < 0 else min(size, left)
        data = self._plain.read(self._at, length) if length else b""
        self._at += length
        return data


def _little_endian(plain: PlainFile, members: dict[str, tuple[int, int]], root: str) -> None:
    place = members.get(f"{root}byteorder")
    if place is not None and plain.read(place[0], min(place[1], 16)) != b"little":
        raise BadFile("Its numbers are in big-endian order, which is not read.")


def _state(top: object) -> object:
    """The map with the weights: itself, or what ``state_dict`` holds."""
    return top["state_dict"] if isinstance(top, dict) and "state_dict" in top else top


def _tensors(top: object, limits: Limits) -> Iterator[tuple[str, Saved]]:
    """Tensors in maps within maps, names joined by dots.

    Raises:
        BadFile: when there are too many values. A pickle can name one map in many places, so that
            a small file unfolds into a number without end.
    """
    waiting: list[tuple[str, object, int]] = [("", top, 0)]
    seen = 0
    while waiting:
        prefix, value, depth = waiting.pop()
        seen += 1
        if seen > 4 * limits.tensors:
            raise BadFile(f"Its pickle unfolds into more than {4 * limits.tensors:,} values.")
        if isinstance(value, Saved):
            yield prefix or "tensor", value
        elif isinstance(value, dict) and depth < DEEPEST and len(prefix) <= limits.name:
            waiting.extend(
                (f"{prefix}.{key}" if prefix else str(key), inner, depth + 1)
                for key, inner in reversed(value.items())
                if isinstance(inner, Saved | dict)
            )


def _texts(top: object) -> dict[str, str]:
    """Short texts beside the tensors, for the file's claims about itself."""
    items = top.items() if isinstance(top, dict) else ()
    return {str(key): value for key, value in items if isinstance(value, str)}


def _place(name: str, saved: Saved, members: dict[str, tuple[int, int]], root: str) -> Stored:
    place = members.get(f"{root}data/{saved.storage.key}")
    size = saved.storage.dtype.itemsize
    if place is None or place[1] < saved.storage.count * size:
        raise BadFile(f"The values of tensor {shown(name)} are missing from the zip.")
    return Stored(
        shape=saved.shape,
        dtype=saved.storage.dtype,
        offset=place[0],
        length=saved.storage.count * size,
        stride=saved.stride,
        first=saved.first,
    )
