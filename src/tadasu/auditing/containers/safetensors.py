"""safetensors: eight bytes of length, a JSON header, then the tensors.

https://github.com/huggingface/safetensors (format description). The header is checked here in full
before a byte of it is trusted: the ranges must cover the rest of the file without gap or overlap.
"""

from __future__ import annotations

import json
from itertools import pairwise

import torch

from tadasu.auditing.containers.file import Limits, OffsetFile, PlainFile, Stored, checked_shape
from tadasu.errors import BadFile, shown

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class SafetensorsFile(OffsetFile):
    """A safetensors file whose header holds together."""

    @classmethod
    def open(cls, plain: PlainFile, limits: Limits) -> SafetensorsFile:
        """Check the header.

        Raises:
            BadFile: with the first thing that is wrong in it.
        """
        header, start = _header(plain, limits)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise BadFile("The header's metadata is not a map from text to text.")
        if len(header) > limits.tensors:
            raise BadFile(f"It has {len(header):,} tensors; at most {limits.tensors:,} are read.")
        stored = {name: _place(name, entry, start, limits) for name, entry in header.items()}
        _tile(stored, start, plain.size)
        return cls(plain=plain, stored=stored, metadata=metadata, container="safetensors")


def _header(plain: PlainFile, limits: Limits) -> tuple[dict[str, object], int]:
    if plain.size < 8:
        raise BadFile("It is too short to be a model file of any known kind.")
    length = int.from_bytes(plain.read(0, 8), "little")
    if length > limits.header:
        raise BadFile(
            f"Its header would have {length:,} bytes; at most {limits.header:,} are read "
            "(or it is no model file)."
        )
    if 8 + length > plain.size:
        raise BadFile("Its header ends beyond the file; it is truncated or forged.")
    try:
        header = json.loads(plain.read(8, length), object_pairs_hook=_unique)
    except BadFile:
        raise
    except (ValueError, RecursionError) as error:
        raise BadFile("Its header is not JSON.") from error
    if not isinstance(header, dict):
        raise BadFile("Its header is not a map.")
    return header, 8 + length


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise BadFile(f"Its header names {shown(key)} twice.")
        found[key] = value
    return found


def _place(name: str, entry: object, start: int, limits: Limits) -> Stored:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadFile(f"Tensor {shown(name)} is not described by type, shape and offsets.")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise BadFile(f"Tensor {shown(name)} has the unknown type {shown(entry['dtype'])}.")
    shape = checked_shape(entry["shape"], name, limits)
    ends = entry["data_offsets"]
    if not isinstance(ends, list) or len(ends) != 2 or not all(type(end) is int for end in ends):
        raise BadFile(f"Tensor {shown(name)} has offsets that cannot be.")
    length = torch.Size(shape).numel() * dtype.itemsize
    if ends[0] < 0 or ends[1] - ends[0] != length:
        raise BadFile(f"Tensor {shown(name)} has offsets that do not fit its shape and type.")
    return Stored(shape=shape, dtype=dtype, offset=start + ends[0], length=length)


def _tile(stored: dict[str, Stored], start: int, size: int) -> None:
    """Ranges must follow each other without gap or overlap and end where the file ends."""
    ranges = sorted((place.offset, place.offset + place.length) for place in stored.values())
    ranges = [(start, start), *ranges, (size, size)]
    for (_, end), (begin, _) in pairwise(ranges):
        if begin < end and end > size:
            raise BadFile("Its tensors lie beyond its end; it is truncated or forged.")
        if begin < end:
            raise BadFile("Two of its tensors overlap.")
        if begin > end:
            raise BadFile("Bytes of the file belong to no tensor; something is hidden or lost.")
