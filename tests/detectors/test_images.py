"""Files that strangers made: one upright RGB picture, or one clear message."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadasu.detectors.images import decode_image, read_image, read_images
from tadasu.errors import BadFile

RED, BLUE = (250, 10, 10), (10, 10, 250)


def halves() -> Image.Image:
    """A 40 x 20 picture, red on the left and blue on the right."""
    picture = Image.new("RGB", (40, 20), RED)
    picture.paste(BLUE, (20, 0, 40, 20))
    return picture


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_a_png_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    path = tmp_path / "halves.png"
    halves().save(path)
    seen = read_image(path)
    assert seen.mode == "RGB"
    assert np.array_equal(np.asarray(seen), np.asarray(halves()))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_is_read(format: str) -> None:
    seen = np.asarray(decode_image(encoded(halves(), format), name="x"))
    assert np.abs(seen[10, 5].astype(int) - RED).max() < 12


def test_a_rotated_photograph_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left of how it is shown
    seen = decode_image(encoded(halves(), "JPEG", exif=exif, quality=95), name="x")
    assert seen.size == (20, 40)
    assert np.asarray(seen)[5, 10, 0] > 200  # red on top
    assert not seen.getexif()


def test_transparency_lies_on_white() -> None:
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.asarray(decode_image(encoded(picture, "PNG"), name="x")).min() == 255
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    shown = decode_image(encoded(palette, "PNG", transparency=0), name="x")
    assert np.asarray(shown).min() == 255


def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    grey = Image.fromarray(np.full((4, 4), 30_000, dtype=np.uint16))
    assert (
        np.asarray(decode_image(encoded(grey, "PNG"), name="x"))[0, 0].tolist() == [117] * 3
    )  # 30,000 of 65,535


def test_float_pixels_are_refused() -> None:
    with pytest.raises(BadFile, match="has F pixels"):
        decode_image(encoded(Image.new("F", (4, 4)), "TIFF"), name="x")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_one_clear_message(format: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(BadFile, match=r"'cat\.png' is (truncated|not a picture)"):
        decode_image(data[: int(len(data) * kept)], name="cat.png")


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (9_000, 9_000), (19_000, 19_000), (30_000, 1)]
)
def test_a_bomb_is_not_unfolded(width: int, height: int) -> None:
    with pytest.raises(BadFile, match="too large to open safely"):
        decode_image(png_that_claims(width, height), name="bomb.png")


def test_the_limit_can_be_lowered() -> None:
    with pytest.raises(BadFile, match=r"at most 799 pixels .* 40 x 20"):
        decode_image(encoded(halves(), "PNG"), name="x", max_pixels=799)
    assert decode_image(encoded(halves(), "PNG"), name="x", max_pixels=800).size == (40, 20)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused(format: str) -> None:
    other = Image.new("RGB", (40, 20), BLUE)
    data = encoded(halves(), format, save_all=True, append_images=[other])
    with pytest.raises(BadFile, match="has 2 frames"):
        decode_image(data, name="x")


def test_a_telephone_picture_is_its_first() -> None:
    data = encoded(halves(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)])
    assert decode_image(data, name="x").size == (40, 20)


@pytest.mark.parametrize("data", [b"hello, I am a text", b"%PDF-1.4", b"<svg/>", b"\0" * 500])
def test_other_files_are_named_as_such(data: bytes) -> None:
    with pytest.raises(BadFile, match="not a picture that can be read"):
        decode_image(data, name="notes.png")


def test_a_vector_program_is_never_started() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
    with pytest.raises(BadFile, match="not a picture that can be read"):
        decode_image(postscript, name="x.png")


def test_paths_that_hold_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadFile, match="There is no picture"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(BadFile, match="is not a file"):
        read_image(tmp_path)
    with pytest.raises(BadFile, match="is empty"):
        read_image(tmp_path / "empty.png")


def test_a_bad_file_does_not_stop_the_batch(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"nonsense")
    first, bad, last = read_images(tmp_path / name for name in ("a.png", "b.png", "a.png"))
    assert isinstance(first, Image.Image)
    assert isinstance(bad, BadFile)
    assert isinstance(last, Image.Image)


def test_random_damage_never_escapes() -> None:
    rng = np.random.default_rng(7)
    sources = [encoded(halves(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
    refused = 0
    for _ in range(300):
        data = bytearray(sources[rng.integers(len(sources))])
        for place in rng.integers(0, len(data), 5):
            data[place] = rng.integers(256)
        with contextlib.suppress(BadFile):
            assert decode_image(bytes(data), name="x").mode == "RGB"
            continue
        refused += 1
    assert 50 < refused < 300  # the damage was real, and not everything was refused
