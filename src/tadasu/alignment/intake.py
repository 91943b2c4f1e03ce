"""What a user hands in: one picture and one text, checked before anything reads them.

A picture can be a PIL picture, the path or bytes of a file, a ``data:`` address or, where hosts
were allowed, a web address. It is opened once; what was judged is what the model sees.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.alignment.fetch import fetch
from tadasu.detectors.images import MAX_PIXELS, MAX_SIDE, decode_image, read_image
from tadasu.errors import BadFile, BadInput, shown

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_CHARACTERS = 100_000
_DATA = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.DOTALL)


def picture(given: Any, *, hosts: frozenset[str] = frozenset()) -> Image:
    """The picture a user hands in, upright and in RGB.

    Args:
        given: a PIL picture, a path, bytes, a ``data:`` address or a web address.
        hosts: names of the hosts that pictures may be fetched from; none at first.

    Raises:
        BadInput: nothing was given, or something that is no picture; a host that is not allowed
            or whose address is private.
        BadFile: the file is absent, damaged, animated, of another format, or too large.
    """
    from PIL import Image

    if given is None:
        raise BadInput("There is no picture; give a PIL picture, a path, bytes or an address.")
    if isinstance(given, Image.Image):
        return _plain(given)
    if isinstance(given, bytes | bytearray):
        return decode_image(bytes(given), name="the picture")
    if isinstance(given, str) and given.startswith("data:"):
        return decode_image(_data(given), name="the picture")
    if isinstance(given, str) and re.match(r"[a-z][a-z0-9+.-]+://", given, re.IGNORECASE):
        return decode_image(fetch(given, hosts=hosts), name=given)
    if isinstance(given, str | Path):
        return read_image(given)
    raise BadInput(
        f"A {type(given).__name__} is no picture; give a PIL picture, a path, bytes or an address."
    )


def question(text: Any) -> str:
    """The text a user hands in.

    Raises:
        BadInput: it is no text, empty, too long or has control characters.
    """
    if not isinstance(text, str):
        raise BadInput(f"A question is a text; got a {type(text).__name__}.")
    if len(text) > MAX_CHARACTERS:
        raise BadInput(
            f"The question has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken."
        )
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind == "Cs" or (kind == "Cc" and character not in "\t\n\r"):
            raise BadInput(
                f"The question has the control character U+{ord(character):04X} at position "
                f"{place}; remove it."
            )
    if not any(unicodedata.category(c)[0] in "LNPS" for c in text):
        raise BadInput(f"The question is empty ({shown(text)}).")
    return text


def fingerprint(image: Image) -> str:
    """SHA-256 of a picture's size and pixels, ``sha256:…``."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return "sha256:" + digest.hexdigest()


def _plain(image: Image) -> Image:
    """A picture that is handed in open: the same rules as for files."""
    width, height = image.size
    if 0 in image.size:
        raise BadInput(f"The picture has {width} x {height} pixels.")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadFile(
            f"The picture is too large to open safely: {width:,} x {height:,}, at most "
            f"{MAX_PIXELS:,} pixels."
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise BadFile("The picture has several frames; give each as its own picture.")
    if image.mode in ("RGB", "CMYK", "YCbCr", "HSV", "LAB") and not image.getexif():
        return image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG", exif=image.getexif())
    return decode_image(file.getvalue(), name="the picture")


def _data(address: str) -> bytes:
    found = _DATA.fullmatch(address)
    if found is None:
        raise BadInput("A data: address of a picture reads data:image/TYPE;base64,CONTENT.")
    try:
        return base64.b64decode(found.group(1), validate=True)
    except binascii.Error as error:
        raise BadInput(f"The data: address is not base64: {error}.") from error
