"""A file from a stranger: opened without following links, read in bounded pieces."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import torch
from torch import Tensor

from tadasu.errors import BadFile, shown

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FLAGS |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is too much to be read. Every limit is far above any honest file known to us.

    Args:
        file: bytes of one file.
        header: bytes of a safetensors header, or of a pickle's program.
        tensors: tensors in one file.
        name: characters of a tensor's name.
        values: values of one tensor, and of one base weight.
        loaded: bytes of all tensors of one adapter (whole checkpoints are read piece by piece).
        rank: inner size of a factored update.
    """

    file: int = 64 * 2**30
    header: int = 16 * 2**20
    tensors: int = 100_000
    name: int = 512
    values: int = 2**28
    loaded: int = 8 * 2**30
    rank: int = 8192


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a tensor lies.

    Attributes:
        shape: its sizes.
        dtype: its type.
        offset: first byte in the file.
        length: bytes.
        stride: steps between values, for views into a longer storage; None when contiguous.
        first: first value within the storage.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    length: int
    stride: tuple[int, ...] | None = None
    first: int = 0

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class PlainFile:
    """A regular file that is not a link, and that does not change while it is examined."""

    path: Path
    size: int
    identity: tuple[int, int, int, int]

    @classmethod
    def open(cls, path: Path, limits: Limits) -> PlainFile:
        """Look at a file without following a link.

        Raises:
            BadFile: for a link, a folder, a device, an empty or an oversized file.
        """
        with _handle(path) as handle:
            status = os.fstat(handle.fileno())
        if status.st_size > limits.file:
            raise BadFile(f"It has {status.st_size:,} bytes; at most {limits.file:,} are read.")
        if status.st_size == 0:
            raise BadFile("The file is empty.")
        return cls(path=path, size=status.st_size, identity=_identity(status))

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there.

        Raises:
            BadFile: when the file is shorter, or is no longer the one that was checked.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise BadFile("A part of the file lies beyond its end; it is truncated or forged.")
        with _handle(self.path) as handle:
            if _identity(os.fstat(handle.fileno())) != self.identity:
                raise BadFile("The file changed while it was being read.")
            handle.seek(offset)
            data = handle.read(length)
        if len(data) != length:
            raise BadFile("The file ended while it was being read.")
        return data

    def digest(self) -> str:
        """SHA-256 of the whole file, hexadecimal."""
        with _handle(self.path) as handle:
            if _identity(os.fstat(handle.fileno())) != self.identity:
                raise BadFile("The file changed while it was being read.")
            return hashlib.file_digest(handle, "sha256").hexdigest()


def _handle(path: Path) -> BufferedReader:
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise BadFile("It is a symbolic link; links in folders to examine are not followed.")
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadFile(
                "It is a symbolic link; links in folders to examine are not followed."
            ) from error
        raise BadFile(f"It cannot be opened: {error.strerror}.") from error
    except ValueError as error:
        raise BadFile("Its path cannot be a file's name.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadFile("It is not a regular file.")
    return os.fdopen(descriptor, "rb")


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class TensorFile(ABC):
    """Names, shapes and types of a file's tensors, and each tensor on request.

    Attributes:
        plain: the file.
        stored: every tensor by name.
        metadata: text that the file carries about itself.
        container: ``safetensors``, ``torch`` or ``png``.
    """

    plain: PlainFile
    stored: Mapping[str, Stored]
    metadata: Mapping[str, str]
    container: str

    @abstractmethod
    def get(self, name: str) -> Tensor:
        """One tensor, on the CPU, its values finite.

        Raises:
            BadFile: for values that are not finite, or a file that changed.
        """


@dataclass(frozen=True, kw_only=True)
class OffsetFile(TensorFile):
    """A file whose tensors lie uncompressed at known places."""

    plain: PlainFile
    stored: Mapping[str, Stored]
    container: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Tensor:
        """Read, shape and check one tensor."""
        place = self.stored[name]
        data = bytearray(self.plain.read(place.offset, place.length))
        flat = torch.frombuffer(data, dtype=place.dtype) if data else torch.empty(0)
        if place.stride is not None:
            flat = flat.as_strided(place.shape, place.stride, place.first)
        return finite(flat.reshape(place.shape), name)


def finite(tensor: Tensor, name: str) -> Tensor:
    """The tensor, in float32 unless it is a whole number or has a common half type.

    Raises:
        BadFile: when a value is not finite.
    """
    if not tensor.is_floating_point():
        return tensor
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        tensor = tensor.float()
    # The sum is finite far more often than not and costs one pass; only then look at every value.
    if not math.isfinite(float(tensor.float().sum())) and not bool(torch.isfinite(tensor).all()):
        raise BadFile(f"Tensor {shown(name)} holds values that are not finite (NaN or infinity).")
    return tensor


def checked_shape(shape: object, name: str, limits: Limits) -> tuple[int, ...]:
    """Sizes as they may be.

    Raises:
        BadFile: for sizes that are no whole numbers from 0, more than 8, or too many values.
    """
    if len(name) > limits.name:
        raise BadFile(f"A tensor's name has {len(name):,} characters: {shown(name)}.")
    good = isinstance(shape, list | tuple) and len(shape) <= 8
    sizes = tuple(shape) if good and isinstance(shape, list | tuple) else ()
    if not good or not all(type(size) is int and size >= 0 for size in sizes):
        raise BadFile(f"Tensor {shown(name)} has a shape that cannot be.")
    count = math.prod(sizes)
    if count > limits.values:
        raise BadFile(
            f"Tensor {shown(name)} has {count:,} values; at most {limits.values:,} are read."
        )
    return sizes
