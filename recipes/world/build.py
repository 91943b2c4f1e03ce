"""Builds the world stage by stage: ``python build.py --config cpu --work DIR STAGE…``.

Stages in order: artwork, vae, captions, clip, text-to-image, decoder, judge, vision-language,
answers, ship, ship-alignment, alignment-suites, then what is trained on the shipped models: shelf
and shelf-more (the two may run beside each other), few-step and ship-few-step. With ``--config
cpu-scenes`` and a work folder of its own: artwork, captions, text-to-image, joint, decoder,
ship-scenes. Each resumes from its own checkpoint.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from training import WORLD


@dataclass(frozen=True)
class Given:
    """What a stage works on.

    Attributes:
        config: of all stages, from ``configs/NAME.yaml``.
        packages: the folder ``node_modules``.
        work: the folder in which stages leave what later ones read.
        device: of the trainings.
    """

    config: dict[str, Any]
    packages: Path
    work: Path
    device: torch.device

    @cached_property
    def art(self) -> Any:
        """The artwork that the first stage rendered."""
        from pictures import Artwork

        return Artwork.load(self.work / "data")

    def drawn(self, train: Callable[..., None], name: str) -> None:
        """A training on the artwork."""
        train(self.art, self.config[name], self.work, self.device)

    def trained(self, train: Callable[..., None], name: str) -> None:
        """A training on what earlier stages left."""
        train(self.config[name], self.work, self.device)

    def rendered(self, build: Callable[..., None]) -> None:
        """The artwork itself."""
        everything = self.config.get("concepts") == "all"
        build(self.packages, self.work / "data", self.config["size"], everything=everything)


#: Module and what is done with it; a module is imported when its stage begins.
STAGES: dict[str, tuple[str, Callable[[Any, Given], None]]] = {
    "artwork": ("artwork", lambda m, g: g.rendered(m.build)),
    "vae": ("vae", lambda m, g: g.drawn(m.train, "vae")),
    "captions": ("captions", lambda m, g: m.build(g.art, g.config["captions"], g.work)),
    "clip": ("clip", lambda m, g: g.drawn(m.train, "clip")),
    "text-to-image": ("text_to_image", lambda m, g: g.trained(m.train, "text-to-image")),
    "joint": ("text_to_image", lambda m, g: g.trained(m.train, "joint")),
    "decoder": ("vae", lambda m, g: g.trained(m.refine, "decoder")),
    "judge": ("judge", lambda m, g: g.drawn(m.train, "judge")),
    "vision-language": ("vision_language", lambda m, g: g.drawn(m.train, "vision-language")),
    "answers": ("answers", lambda m, g: g.drawn(m.train, "answers")),
    "ship": ("ship", lambda m, g: m.ship(g.art, g.work)),
    "ship-alignment": ("ship", lambda m, g: m.ship_alignment(g.work)),
    "alignment-suites": (
        "alignment_suites",
        lambda m, g: m.write(g.art, WORLD / "suites" / "alignment"),
    ),
    "shelf": ("shelf", lambda m, g: m.build(g.art)),
    "shelf-more": ("shelf_more", lambda m, g: m.build(g.art, g.work, WORLD / "adapters")),
    "few-step": ("few_step", lambda m, g: g.trained(m.train, "few-step")),
    "ship-scenes": ("ship", lambda m, g: m.ship_scenes(g.config, g.work)),
    "ship-few-step": ("ship", lambda m, g: m.ship_few_step(g.work)),
}


def main() -> None:
    """Parses the command line and runs the stages in the order given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--config", default="cpu", help="the name of one in configs/")
    parser.add_argument("--packages", type=Path, default=Path("node_modules"))
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--until", type=int, help="end every training after so many steps")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    given = Given(configured(args.config, args.until), args.packages, args.work, device())
    for stage in args.stages:
        run(stage, given)


def configured(name: str, until: int | None) -> dict[str, Any]:
    """A configuration by name; every training ends after ``until`` steps, where that is sooner."""
    file = Path(__file__).parent / "configs" / f"{name}.yaml"
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    for part in config.values():
        if until and isinstance(part, dict):
            part["until"] = until
    return config


def device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(stage: str, given: Given) -> None:
    """One stage."""
    module, work = STAGES[stage]
    work(importlib.import_module(module), given)


if __name__ == "__main__":
    main()
