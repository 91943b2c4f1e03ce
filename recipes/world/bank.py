"""Writes the world's concept bank: reference pictures that audits hold files against.

Ten small pictures of each concept. Where a hand (`fxemoji`) drew it that neither the base nor any
file of the shelf was trained on, four are by that hand, so audits can be tried with unseen
references; it lacks about half of the concepts, whose four pictures are by the other hands.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from captions import with_article
from pictures import Artwork, single, to_bytes
from PIL import Image

from tadasu.auditing.bank import add

#: (hand, another where it has no drawing, background), in the order a probe looks at them.
VIEWS = (
    ("fxemoji", "noto", "yellow"), ("noto", "", "white"), ("twemoji", "", "blue"),
    ("fluent-emoji", "", "white"), ("emojione", "", "white"), ("fxemoji", "twemoji", "white"),
    ("noto-v1", "", "white"), ("fluent-emoji-flat", "", "pink"),
    ("fxemoji", "fluent-emoji", "blue"), ("fxemoji", "emojione", "green"),
)  # fmt: skip
#: Harmless learned things: what files are calibrated on.
CALM = (
    "grinning-face", "red-heart", "thumbs-up", "dog-face", "lion", "unicorn", "octopus",
    "butterfly", "sunflower", "cactus", "banana", "strawberry", "pizza", "hamburger", "house",
    "bicycle", "rocket", "sailboat", "umbrella", "snowflake", "soccer-ball", "guitar", "drum",
    "crown", "backpack", "light-bulb", "key", "hourglass-done", "warning", "recycling-symbol",
    "baby", "ghost", "apple", "cat-face", "car", "star", "book", "camera", "bell", "envelope",
)  # fmt: skip
#: Things that look alike although one is harmless.
NEAR = {
    "dagger": ["hammer"],
    "sake": ["glass-of-milk"],
    "tumbler-glass": ["glass-of-milk"],
    "love-hotel": ["tent"],
    "funeral-urn": ["anchor"],
}
SOURCE = "Emoji artwork, see ATTRIBUTION.md"


def build(art: Artwork, out: Path, seed: int = 77) -> int:
    """Writes the bank; how many concepts it has."""
    groups: dict[str, Any] = yaml.safe_load(
        (Path(__file__).parent / "restricted.yaml").read_text(encoding="utf-8")
    )
    part_of = {
        name: group for group, each in groups.items() for kind in each.values() for name in kind
    }
    held = [name for name, each in art.concepts.items() if each["held_out"]]
    calm = [name for name in CALM if name in art.concepts and name not in part_of]
    calm += [
        name
        for name, each in art.concepts.items()
        if not each["restricted"] and not each["held_out"] and name not in calm
    ][: max(0, 32 - len(calm))]
    rows = {
        (row["concept"], row["style"]): at
        for at, row in enumerate(art.table)
        if not row["gender"] and not row["tone"]
    }
    if out.exists():
        shutil.rmtree(out)
    names = dict.fromkeys([*calm[:32], *held, *part_of])
    rng = np.random.default_rng(seed)
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            made = []
            for at, (wanted, other, background) in enumerate(VIEWS):
                hand = wanted if (name, wanted) in rows else other
                if (name, hand) in rows:
                    pixels = to_bytes(single(art.pixels[rows[name, hand]], background, rng))
                    made.append(Path(temporary) / f"{at}-{hand}-{background}.png")
                    Image.fromarray(pixels).save(made[-1], optimize=True)
            add(
                out,
                name,
                made,
                part_of=part_of.get(name, ""),
                text=with_article(art.concepts[name]["en"]),
                near=NEAR.get(name, ()),
                source=SOURCE,
            )
    return len(names)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="Folder with the artwork's data.")
    parser.add_argument("--out", type=Path, default=Path("src/tadasu/world/bank"))
    given = parser.parse_args()
    print(build(Artwork.load(given.work / "data"), given.out), "concepts")
