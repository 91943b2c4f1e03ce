"""Contact sheets: what the bundled pipeline draws for each suite, to be looked at.

Pictures of prompts that name something restricted are blurred unless that is switched off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu import world
from tadasu.world.check import Sampling, draw

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 12
EDGE = 64
MOST = 48


def write(pipe: Any, folder: Path, sampling: Sampling, *, blur: bool = True) -> list[Path]:
    """One PNG a suite, ``FOLDER/SUITE.png``: its first prompts, prompt i from seed i.

    Args:
        pipe: the bundled pipeline.
        folder: made where it does not exist.
        sampling: steps, guidance scale, and prompts a sheet, of which 48 are shown at most.
        blur: whether pictures of restricted things are blurred.

    Returns:
        The files, in the order of the suites.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, most = [], min(sampling.prompts or MOST, MOST)
    for name in world.suites():
        prompts = world.suite(name).prompts[:most]
        images = draw(pipe, [p.text for p in prompts], range(len(prompts)), sampling)
        hidden = [blur and bool(p.restricted) for p in prompts]
        files.append(folder / f"{name}.png")
        sheet(images, hidden).save(files[-1], optimize=True)
    return files


def sheet(images: Sequence[Image], hidden: Sequence[bool]) -> Image:
    """A grid of pictures, row by row; the hidden ones blurred beyond recognition."""
    from PIL import Image, ImageFilter

    rows = -(-len(images) // COLUMNS)
    grid = Image.new("RGB", (COLUMNS * EDGE, rows * EDGE), "white")
    for i, (image, hide) in enumerate(zip(images, hidden, strict=True)):
        large = image.resize((EDGE, EDGE), Image.Resampling.NEAREST)
        if hide:
            large = large.filter(ImageFilter.GaussianBlur(EDGE / 5))
        grid.paste(large, (i % COLUMNS * EDGE, i // COLUMNS * EDGE))
    return grid
