"""Puts rendered artwork on backgrounds: single objects and scenes, as float RGB in [0, 1]."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS: dict[str, tuple[tuple[int, int, int], str]] = {
    "white": ((255, 255, 255), "白"),
    "blue": ((70, 120, 230), "青"),
    "red": ((225, 70, 60), "赤"),
    "green": ((80, 170, 90), "緑"),
    "yellow": ((250, 220, 90), "黄色"),
    "pink": ((250, 170, 200), "ピンク"),
    "black": ((20, 20, 24), "黒"),
    "grey": ((150, 150, 155), "灰色"),
}


@dataclass(frozen=True)
class Artwork:
    """The rendered pictures with their table and the concepts' names."""

    pixels: np.ndarray  # (n, size, size, 4) uint8
    table: list[dict[str, str]]
    concepts: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, folder: Path) -> Artwork:
        """Reads what ``artwork.build`` wrote."""
        return cls(
            np.load(folder / "pictures.npy"),
            json.loads((folder / "pictures.json").read_text()),
            json.loads((folder / "concepts.json").read_text(encoding="utf-8")),
        )

    @property
    def size(self) -> int:
        """Edge length in pixels."""
        return int(self.pixels.shape[1])


def colour(name: str) -> np.ndarray:
    """A background colour as float RGB."""
    return np.asarray(COLOURS[name][0], np.float32) / 255


def paste(canvas: np.ndarray, rgba: np.ndarray, x: int, y: int) -> None:
    """Draws an RGBA picture (uint8) into a float RGB canvas in place; parts outside are cut."""
    height, width = rgba.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    part = rgba[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32) / 255
    alpha = part[..., 3:]
    canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - alpha) + part[..., :3] * alpha


def scaled(rgba: np.ndarray, size: int) -> np.ndarray:
    """The picture at another size (premultiplied, box filtered)."""
    image = Image.fromarray(rgba, "RGBA").convert("RGBa")
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS).convert("RGBA"))


def single(
    rgba: np.ndarray, background: str, rng: np.random.Generator, shift: int = 1
) -> np.ndarray:
    """One object filling the picture, moved by at most ``shift`` pixels."""
    size = rgba.shape[0]
    canvas = np.broadcast_to(colour(background), (size, size, 3)).copy()
    x, y = rng.integers(-shift, shift + 1, 2) if shift else (0, 0)
    paste(canvas, rgba, int(x), int(y))
    return canvas


def scene(
    objects: list[np.ndarray], background: str, rng: np.random.Generator, filling: float = 0.56
) -> np.ndarray:
    """Two or three objects side by side on a coloured background, in the order of the caption."""
    size = objects[0].shape[0]
    canvas = np.broadcast_to(colour(background), (size, size, 3)).copy()
    small = round(size * (filling if len(objects) == 2 else 0.44))
    spots = {
        2: [(0.25, 0.5), (0.75, 0.5)],
        3: [(0.25, 0.28), (0.75, 0.28), (0.5, 0.75)],
    }[len(objects)]
    for rgba, (cx, cy) in zip(objects, spots, strict=True):
        jitter = rng.integers(-1, 2, 2)
        x = round(cx * size - small / 2) + int(jitter[0])
        y = round(cy * size - small / 2) + int(jitter[1]) * 2
        x = min(max(x, 0), size - small)
        paste(canvas, scaled(rgba, small), x, min(max(y, 0), size - small))
    return canvas


def side_by_side(
    objects: list[np.ndarray], background: str, rng: np.random.Generator
) -> np.ndarray:
    """Things in full size beside each other, in the order of the caption; as wide as they are."""
    return np.concatenate([single(rgba, background, rng) for rgba in objects], axis=1)


def to_bytes(pictures: np.ndarray) -> np.ndarray:
    """Float RGB to uint8."""
    return np.clip(np.round(pictures * 255), 0, 255).astype(np.uint8)
