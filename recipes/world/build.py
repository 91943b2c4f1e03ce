"""Builds the world stage by stage: ``python build.py --config cpu --work DIR STAGE…``.

Stages in order: artwork, vae, captions, clip, text-to-image, decoder, judge, vision-language,
answers, ship, ship-alignment, alignment-suites, then what is trained on the shipped models: shelf
and shelf-more (the two may run beside each other), few-step and ship-few-step. With ``--config
cpu-scenes`` and a work folder of its own: artwork, captions, text-to-image, decoder, ship-scenes.
Each resumes from its own checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml

STAGES = (
    "artwork", "vae", "captions", "clip", "text-to-image", "decoder", "judge",
    "vision-language", "answers", "ship", "ship-alignment", "alignment-suites", "shelf",
    "shelf-more", "few-step", "ship-scenes", "ship-few-step",
)  # fmt: skip


def main() -> None:
    """Parses the command line and runs the stages in the order given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--config", default="cpu", help="cpu or gpu (configs/NAME.yaml)")
    parser.add_argument("--packages", type=Path, default=Path("node_modules"))
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--until", type=int, help="end every training after so many steps")
    args = parser.parse_args()
    config = yaml.safe_load((Path(__file__).parent / "configs" / f"{args.config}.yaml").read_text())
    if args.until:
        for part in config.values():
            if isinstance(part, dict):
                part["until"] = args.until
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.threads:
        torch.set_num_threads(args.threads)
    for stage in args.stages:
        run(stage, config, args.packages, args.work, device)


def run(stage: str, config: dict, packages: Path, work: Path, device: torch.device) -> None:
    """One stage; the imports are local because each stage needs only its own."""
    if stage == "artwork":
        import artwork

        artwork.build(packages, work / "data", config["size"])
        return
    from pictures import Artwork

    art = Artwork.load(work / "data")
    if stage == "vae":
        import vae

        vae.train(art, config["vae"], work, device)
    elif stage == "decoder":
        import vae

        vae.refine(config["decoder"], work, device)
    elif stage == "captions":
        import captions

        captions.build(art, config["captions"], work)
    elif stage == "clip":
        import clip

        clip.train(art, config["clip"], work, device)
    elif stage == "text-to-image":
        import text_to_image

        text_to_image.train(art, config["text-to-image"], work, device)
    elif stage == "few-step":
        import few_step

        few_step.train(config["few-step"], work, device)
    elif stage == "judge":
        import judge

        judge.train(art, config["judge"], work, device)
    elif stage == "vision-language":
        import vision_language

        vision_language.train(art, config["vision-language"], work, device)
    elif stage == "answers":
        import answers

        answers.train(art, config["answers"], work, device)
    elif stage == "ship-alignment":
        import ship

        ship.ship_alignment(work)
    elif stage == "alignment-suites":
        import alignment_suites
        from training import WORLD

        alignment_suites.write(art, WORLD / "suites" / "alignment")
    elif stage == "ship":
        import ship

        ship.ship(art, config, work)
    elif stage == "ship-scenes":
        import ship

        ship.ship_scenes(config, work)
    elif stage == "ship-few-step":
        import ship

        ship.ship_few_step(work)
    elif stage == "shelf":
        import shelf

        shelf.build(art)
    elif stage == "shelf-more":
        import shelf_more
        from training import WORLD

        shelf_more.build(art, work, WORLD / "adapters")


if __name__ == "__main__":
    main()
