"""Opening picture files that strangers made.

Every file gives either one upright RGB picture, the one a person sees, or one `BadFile` that says
what is wrong with it. A picture with several frames is refused, because judging its first frame
would let the others through. Transparency is laid on white, as a web page shows it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tadasu.errors import BadFile, shown

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded; formats that call other programs or draw vectors are left out on purpose."""

MAX_BYTES = 100_000_000
MAX_PIXELS = 50_000_000
MAX_SIDE = 20_000


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads one picture file, upright and in RGB.

    Args:
        path: a file in one of `FORMATS`.
        max_pixels: width times height at most, in pixels; checked before anything is decoded.

    Returns:
        An RGB picture without metadata.

    Raises:
        BadFile: the file is absent, is no file, is too large, is damaged, is animated, is in
            another format, or would unfold to more than `max_pixels`.
    """
    path = Path(path)
    if not path.exists():
        raise BadFile(f"There is no picture {shown(path, 300)}.")
    if not path.is_file():
        raise BadFile(f"{shown(path, 300)} is not a file; give the picture files themselves.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadFile(f"{shown(path, 300)} is larger than {MAX_BYTES:,} bytes.")
        data = path.read_bytes()
    except OSError as error:
        raise BadFile(f"{shown(path, 300)} cannot be read: {error.strerror}.") from error
    return decode_image(data, name=str(path), max_pixels=max_pixels)


def read_images(
    paths: Iterable[str | Path], *, max_pixels: int = MAX_PIXELS
) -> list[Image.Image | BadFile]:
    """Reads many picture files; a bad one takes its place in the list and stops nothing.

    Args:
        paths: the files, in the order in which the answers are wanted.
        max_pixels: as in `read_image`.

    Returns:
        For each path its picture, or the `BadFile` that says why there is none.
    """
    found: list[Image.Image | BadFile] = []
    for path in paths:
        try:
            found.append(read_image(path, max_pixels=max_pixels))
        except BadFile as error:
            found.append(error)
    return found


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes the bytes of one picture file, upright and in RGB.

    Args:
        data: the content of a file in one of `FORMATS`.
        name: what the picture is called in messages.
        max_pixels: width times height at most, in pixels.

    Returns:
        An RGB picture without metadata.

    Raises:
        BadFile: as in `read_image`.
    """
    if not data:
        raise BadFile(f"{shown(name, 300)} is empty.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the decoders' remarks; what matters is raised below
        try:
            return _decoded(data, name, max_pixels)
        except BadFile:
            raise
        except UnidentifiedImageError as error:
            raise BadFile(
                f"{shown(name, 300)} is not a picture that can be read "
                f"({', '.join(FORMATS)}), or its header is damaged."
            ) from error
        except Image.DecompressionBombError as error:
            raise _too_large(name, max_pixels) from error
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadFile(
                f"{shown(name, 300)} is truncated or damaged: {shown(reason, 200)}."
            ) from error


def _decoded(data: bytes, name: str, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise _too_large(name, max_pixels, f", this one has {width:,} x {height:,}")
        frames = getattr(picture, "n_frames", 1)
        # MPO is what many telephones write: a JPEG whose further pictures no viewer shows.
        if frames > 1 and picture.format != "MPO":
            raise BadFile(f"{shown(name, 300)} has {frames} frames; give each as its own file.")
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        return _on_white(upright, name)


def _too_large(name: str, max_pixels: int, seen: str = "") -> BadFile:
    return BadFile(
        f"{shown(name, 300)} is too large to open safely: at most {max_pixels:,} pixels "
        f"and {MAX_SIDE:,} a side{seen}."
    )


def _on_white(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow would cut, not scale, 16 bits to 8
        grey = np.asarray(picture, dtype=np.float32) / 257.0
        return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise BadFile(f"{shown(name, 300)} has {picture.mode} pixels; save it with 8 bits each.")
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    plain = picture.convert("RGB")
    return Image.frombytes("RGB", plain.size, plain.tobytes())
