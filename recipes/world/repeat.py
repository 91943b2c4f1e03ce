"""Does a repeat of the recipe give the same bits? Runs the first steps of trainings twice.

    python repeat.py --work WORK --until 20 artwork vae clip text-to-image judge few-step

``WORK`` holds what an earlier run of the recipe left: what a training reads is linked from there
into two fresh folders, and what it leaves is compared number by number. Learning rates are those
of the whole training. Exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import build
import torch

CAPTIONS = ("data", "samples.json", "renders.npy", "tokenizer")
LATENTS = (*CAPTIONS, "samples-wide.json", "latents.pt", "latents-wide.pt")
READS = {
    "vae": ("data",),
    "clip": CAPTIONS,
    "text-to-image": (*LATENTS, "text.pt", "vae", "clip"),
    "judge": (*CAPTIONS, "vae"),
    "few-step": (*CAPTIONS, "latents.pt", "text.pt"),
    "joint": (*LATENTS, "pipeline"),
    "decoder": (*LATENTS, "renders-wide.npy"),
}
LEAVES = {
    "vae": "vae.pt",
    "clip": "clip.pt",
    "text-to-image": "unet-*.pt",
    "judge": "judge.pt",
    "few-step": "few-step.pt",
    "joint": "unet-*.pt",
    "decoder": "decoder.pt",
}
MANIFESTS = Path(__file__).resolve().parents[2] / "docs" / "world"
MANIFEST = {32: "manifest.json", 64: "manifest-64.json"}  # by edge length in pixels


def numbers(state: Any) -> list[torch.Tensor]:
    """Every number of a checkpoint, in the order in which it holds them."""
    if isinstance(state, dict):
        return [found for key in sorted(state, key=str) for found in numbers(state[key])]
    if isinstance(state, list | tuple):
        return [found for each in state for found in numbers(each)]
    if isinstance(state, torch.Tensor):
        return [state]
    return [torch.tensor(state)] if isinstance(state, int | float) else []


def same(first: Path, second: Path) -> tuple[int, int]:
    """How many numbers of two checkpoints there are, and how many differ."""
    one, two = (numbers(torch.load(file, weights_only=True)) for file in (first, second))
    differ = sum(int((a != b).sum()) for a, b in zip(one, two, strict=True))
    return sum(tensor.numel() for tensor in one), differ


def repeated(stage: str, run: Callable[[Path], None], work: Path) -> tuple[int, int]:
    """A training run twice from nothing: numbers it left, and how many differ."""
    left = []
    with tempfile.TemporaryDirectory() as place:
        for name in ("first", "second"):
            folder = Path(place) / name
            folder.mkdir()
            for part in READS[stage]:
                if (work / part).exists():
                    (folder / part).symlink_to((work / part).resolve())
            run(folder)
            left.append(next(folder.glob(LEAVES[stage])))
        return same(*left)


def main() -> None:
    """Prints one line a stage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stages", nargs="+", choices=("artwork", *READS))
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--packages", type=Path, default=Path("node_modules"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--until", type=int, default=20)
    args = parser.parse_args()
    given = build.Given(
        build.configured(args.config, args.until), args.packages, args.work, build.device()
    )
    failed = False
    for stage in args.stages:
        if stage == "artwork":
            with tempfile.TemporaryDirectory() as place:
                build.run(stage, replace(given, work=Path(place)))
                found = json.loads((Path(place) / "data" / "manifest.json").read_text())
            kept = json.loads((args.work / "data" / "manifest.json").read_text())
            shipped = json.loads((MANIFESTS / MANIFEST[given.config["size"]]).read_text())
            differ = sum(
                found["pictures"].get(name) != digest or shipped["pictures"].get(name) != digest
                for name, digest in kept["pictures"].items()
            )
            count = len(kept["pictures"])
        else:
            count, differ = repeated(
                stage,
                lambda folder, stage=stage: build.run(stage, replace(given, work=folder)),
                args.work,
            )
        failed |= bool(differ)
        print(f"{stage}: {differ:,} of {count:,} differ", flush=True)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
