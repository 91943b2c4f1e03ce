"""Puts the trained models and the suites where the library finds them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import few_step
import suites
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from pictures import Artwork
from text_to_image import folder_of
from training import WORLD
from transformers import (
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    CLIPModel,
)

LIMITS = {"pipeline": 60e6, "clip": 15e6, "judge": 15e6}  # bytes


def ship(art: Artwork, work: Path) -> None:
    """Copies pipeline, CLIP and judge in half precision, and writes the suites."""
    harmless = [c["en"] for c in art.concepts.values() if not c["restricted"] and not c["held_out"]]
    for part in ("pipeline", "clip", "judge"):
        shutil.rmtree(WORLD / part, ignore_errors=True)
    pipe = StableDiffusionPipeline.from_pretrained(work / "pipeline", dtype=torch.float16)
    pipe.save_pretrained(WORLD / "pipeline")
    forget_places(WORLD / "pipeline")
    clip = CLIPModel.from_pretrained(work / "clip", dtype=torch.float16)
    clip.save_pretrained(WORLD / "clip")
    copy(work / "clip", WORLD / "clip", ("preprocessor_config.json", "processor_config.json"))
    copy(work / "tokenizer", WORLD / "clip", None)
    (WORLD / "clip" / "clip.json").write_text(json.dumps({"neutral": harmless}, indent=0) + "\n")
    judge = AutoModelForImageClassification.from_pretrained(work / "judge", dtype=torch.float16)
    judge.save_pretrained(WORLD / "judge")
    copy(work / "judge", WORLD / "judge", ("preprocessor_config.json",))
    suites.write(art, WORLD / "suites")
    for part, limit in LIMITS.items():
        check_size(WORLD / part, limit)


def ship_scenes(config: dict[str, Any], work: Path) -> None:
    """Copies the model of scenes beside the first one; by itself it draws as wide as they are."""
    target = WORLD / "pipeline-scenes"
    shutil.rmtree(target, ignore_errors=True)
    folder = work / folder_of(config["joint"]["prediction"])
    autoencoder = AutoencoderKL.from_pretrained(work / "vae", dtype=torch.float16)
    pipe = StableDiffusionPipeline.from_pretrained(folder, vae=autoencoder, dtype=torch.float16)
    edge = pipe.unet.config.sample_size
    pipe.unet.register_to_config(sample_size=[edge, 2 * edge])
    pipe.save_pretrained(target)
    forget_places(target)
    check_size(target, LIMITS["pipeline"])


def ship_few_step(work: Path) -> None:
    """Copies the consistency LoRA."""
    shutil.copy(work / few_step.FILE, WORLD / few_step.FILE)
    check_size(WORLD / few_step.FILE, 8e6)


def forget_places(folder: Path) -> None:
    """Takes out of a pipeline's files where it lay before."""
    for file in [folder / "model_index.json", *folder.glob("*/config.json")]:
        content = json.loads(file.read_text(encoding="utf-8"))
        content.pop("_name_or_path", None)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_size(part: Path, limit: float) -> None:
    """Says how large a part is and ends where that is too much.

    Args:
        part: a folder or a file.
        limit: in bytes.
    """
    files = [part] if part.is_file() else [file for file in part.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"shipped {part.name}, {size / 1e6:.1f} MB", flush=True)
    if size > limit:
        raise SystemExit(f"{part.name} is {size:,} bytes; it may have {limit:,.0f}.")


def ship_alignment(work: Path) -> None:
    """Copies the vision-language model and the answer evaluator in half precision."""
    shutil.rmtree(WORLD / "vlm", ignore_errors=True)
    model = AutoModelForImageTextToText.from_pretrained(
        work / "vision-language", dtype=torch.float16
    )
    model.save_pretrained(WORLD / "vlm")
    names = ("processor_config.json", "preprocessor_config.json", "chat_template.jinja",
             "tokenizer.json", "tokenizer_config.json")  # fmt: skip
    copy(work / "vision-language", WORLD / "vlm", names)
    card = WORLD / "evaluator" / "evaluator.json"
    kept = card.read_text(encoding="utf-8") if card.exists() else None
    shutil.rmtree(WORLD / "evaluator", ignore_errors=True)
    network = AutoModelForSequenceClassification.from_pretrained(
        work / "evaluator", dtype=torch.float16
    )
    network.save_pretrained(WORLD / "evaluator")
    copy(work / "evaluator", WORLD / "evaluator", names)
    if kept is not None:
        card.write_text(kept, encoding="utf-8")
    for part, limit in (("vlm", 16), ("evaluator", 4)):
        check_size(WORLD / part, limit * 2**20)


def copy(source: Path, target: Path, names: tuple[str, ...] | None) -> None:
    """Copies the named files that exist, or all."""
    for file in source.iterdir():
        if file.is_file() and (names is None or file.name in names):
            shutil.copy(file, target / file.name)
