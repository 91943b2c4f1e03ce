"""Small files to try the commands on, copied out of the bundled world."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tadasu import world
from tadasu.errors import BadFile, shown

#: A file that taught something restricted, and a harmless one.
ADAPTERS = ("000", "023")
EVALUATION = """\
# A first evaluation on the bundled world; about a minute on a laptop.
title: A first evaluation
model: world
policy: kids
sampler: {steps: 8, guidance_scale: 7.5, batch_size: 16}
n: 8
systems:
  - {name: plain}
  - {name: presence, guidance: presence}
suites: [explicit, benign]
judges:
  - {name: judge, detector: judge, model: world}
encoder: world
"""


def write(folder: Path) -> list[Path]:
    """Write the samples; a file that is already there with the same content stays.

    Args:
        folder: gets ``picture.png``, ``daggers/``, ``downloads/``, ``captions.csv`` and
            ``evaluation.yaml``.

    Returns:
        the files, in the order in which they were written.

    Raises:
        BadFile: the folder cannot be written, or holds another file of one of these names.
    """
    pictures = sorted((world.bank() / "dagger").glob("*.png"))
    files = {f"daggers/{picture.name}": picture.read_bytes() for picture in pictures}
    files["picture.png"] = sorted((world.bank() / "pistol").glob("*.png"))[0].read_bytes()
    shelf = {each.path.stem: each.path for each in world.adapters()}
    files |= {f"downloads/{name}.safetensors": shelf[name].read_bytes() for name in ADAPTERS}
    files["captions.csv"] = _captions()
    files["evaluation.yaml"] = EVALUATION.encode()
    return [_written(folder / name, content) for name, content in files.items()]


def _captions() -> bytes:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["prompt"])
    rows.writerows([prompt.text] for prompt in world.suite("benign").prompts)
    return text.getvalue().encode()


def _written(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() != content:
            raise BadFile(f"{shown(path, 300)} is there already and differs; name a new folder.")
        path.write_bytes(content)
    except OSError as error:
        raise BadFile(f"Cannot write {shown(path, 300)}: {error}") from error
    return path
