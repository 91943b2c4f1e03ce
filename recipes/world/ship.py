"""Puts the trained models and the suites where the library finds them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import suites
import torch
from diffusers import StableDiffusionPipeline
from pictures import Artwork
from transformers import AutoModelForImageClassification, CLIPModel

WORLD = Path(__file__).resolve().parents[2] / "src" / "tadasu" / "world"
LIMIT = 64 * 2**20  # bytes of weights a version


def ship(art: Artwork, config: dict[str, Any], work: Path) -> None:
    """Copies pipeline, CLIP and judge in half precision, and writes the suites."""
    del config
    harmless = [c["en"] for c in art.concepts.values() if not c["restricted"] and not c["held_out"]]
    for part in ("pipeline", "clip", "judge"):
        shutil.rmtree(WORLD / part, ignore_errors=True)
    pipe = StableDiffusionPipeline.from_pretrained(work / "pipeline", torch_dtype=torch.float16)
    pipe.save_pretrained(WORLD / "pipeline")
    clip = CLIPModel.from_pretrained(work / "clip", dtype=torch.float16)
    clip.save_pretrained(WORLD / "clip")
    copy(work / "clip", WORLD / "clip", ("preprocessor_config.json", "processor_config.json"))
    copy(work / "tokenizer", WORLD / "clip", None)
    (WORLD / "clip" / "clip.json").write_text(json.dumps({"neutral": harmless}, indent=0) + "\n")
    judge = AutoModelForImageClassification.from_pretrained(work / "judge", dtype=torch.float16)
    judge.save_pretrained(WORLD / "judge")
    copy(work / "judge", WORLD / "judge", ("preprocessor_config.json",))
    suites.write(art, WORLD / "suites")
    size = sum(file.stat().st_size for file in WORLD.rglob("*") if file.is_file())
    print(f"shipped {size / 1e6:.1f} MB", flush=True)
    if size > LIMIT:
        raise SystemExit(f"The world is {size:,} bytes; it may have {LIMIT:,}.")


def copy(source: Path, target: Path, names: tuple[str, ...] | None) -> None:
    """Copies the named files that exist, or all."""
    for file in source.iterdir():
        if file.is_file() and (names is None or file.name in names):
            shutil.copy(file, target / file.name)
