"""What a file really is, told from its first bytes, where it is no file that is read."""

from __future__ import annotations

#: (what the file starts with, what it is and what to do).
_STARTS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "It is a git-lfs pointer, a text that stands for the real file; fetch that with "
        "'git lfs pull' or download it again.",
    ),
    (b"GGUF", "It is a GGUF file of llama.cpp or stable-diffusion.cpp; ask for safetensors."),
    (b"7z\xbc\xaf\x27\x1c", "It is a 7z archive; unpack it first."),
    (b"Rar!", "It is a RAR archive; unpack it first."),
    (b"\x1f\x8b", "It is a gzip archive; unpack it first."),
    (b"\xfd7zXZ", "It is an xz archive; unpack it first."),
    (b"BZh", "It is a bzip2 archive; unpack it first."),
    (b"\xff\xd8\xff", "It is a JPEG picture."),
    (b"%PDF", "It is a PDF document."),
    (b"\x89HDF", "It is an HDF5 file (Keras); ask for safetensors."),
    (b"\x08\x03\x12", "It is an ONNX model; ask for safetensors."),
    (b"\x7fELF", "It is a program."),
    (b"MZ", "It is a program."),
)
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head")
#: Bytes that are looked at.
LOOKED_AT = 4096


def named(start: bytes) -> str:
    """What a file with this start is; empty where nothing is known of it.

    >>> named(b"<!DOCTYPE html><html>")[:19]
    'It is an HTML or XM'
    """
    for magic, what in _STARTS:
        if start.startswith(magic):
            return what
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_PAGES):
        return (
            "It is an HTML or XML page, as a download gets that needs a login; download it again."
        )
    if text.startswith((b"{", b"[")):
        return "It is a JSON document, perhaps a server's error message; download the file again."
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05" and start[2:8] != bytes(6):
        return (
            "It is a bare pickle (torch's format from before version 1.6, or something else); "
            "such files are not read. Ask for safetensors."
        )
    return ""


def is_model(start: bytes, size: int) -> bool:
    """Whether a file that starts like this may hold weights: read here, or named as unread.

    Used where folders are searched, since endings can be anything.

    Args:
        start: its first bytes, `LOOKED_AT` of them where it has so many.
        size: of the whole file.
    """
    if start.startswith((b"GGUF", b"\x89HDF", b"\x08\x03\x12", b"7z\xbc\xaf", b"Rar!")):
        return True
    if start.startswith(b"PK\x03\x04"):
        return b"data.pkl" in start or b".safetensors" in start or b".ckpt" in start
    if start.startswith(b"\x89PNG"):
        return b"sd-ti-embedding" in start
    if start.startswith(b"version https://git-lfs"):
        return True
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return True
    length = int.from_bytes(start[:8], "little")
    return len(start) > 8 and 2 <= length <= size - 8 and start[8:9] in b"{ \n\t"
