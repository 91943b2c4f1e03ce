"""Contact sheets: what each bundled pipeline draws for each suite, to be looked at.

Pictures of prompts that name something restricted are blurred unless that is switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tadasu import world

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 12
EDGE = 64
MOST = 48


def write(
    folder: Path, model: str, name: str, images: Sequence[Image], *, blur: bool = True
) -> Path:
    """The contact sheet of a suite, ``FOLDER/MODEL/NAME.png``: at most 48 of its pictures.

    Args:
        folder: made where it does not exist.
        model: that drew the pictures.
        name: of the suite.
        images: of its first prompts, in their order.
        blur: whether pictures of restricted things are blurred.
    """
    file = folder / model / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = images[:MOST]
    hidden = [blur and bool(p.restricted) for p in world.suite(name).prompts[: len(shown)]]
    sheet(shown, hidden).save(file, optimize=True)
    return file


def sheet(images: Sequence[Image], hidden: Sequence[bool]) -> Image:
    """A grid of pictures of one size, row by row; the hidden ones blurred beyond recognition."""
    from PIL import Image, ImageFilter

    rows = -(-len(images) // COLUMNS)
    width = EDGE * images[0].width // images[0].height
    grid = Image.new("RGB", (COLUMNS * width, rows * EDGE), "white")
    for i, (image, hide) in enumerate(zip(images, hidden, strict=True)):
        large = image.resize((width, EDGE), Image.Resampling.NEAREST)
        if hide:
            large = large.filter(ImageFilter.GaussianBlur(EDGE / 5))
        grid.paste(large, (i % COLUMNS * width, i // COLUMNS * EDGE))
    return grid
