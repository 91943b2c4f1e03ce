"""Measures what was shipped: the judge on artwork, the generator by the judge.

``python measure.py --work WORK`` writes the judge's card (judge.json) and docs/world/card.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from artwork import UNSEEN_STYLE
from captions import STYLE_NAMES, with_article
from judge import label_names, pool
from pictures import Artwork, single, to_bytes
from PIL import Image
from ship import WORLD

from tadasu import world
from tadasu.backends.transformers import classifier
from tadasu.policy import Policy
from tadasu.statistics.intervals import Rate

DOCS = Path(__file__).resolve().parents[2] / "docs" / "world"


def pictures_of(pixels: np.ndarray) -> list[Image.Image]:
    """uint8 NHWC to PIL."""
    return [Image.fromarray(p) for p in pixels]


def flags(network: Any, images: list[Image.Image], groups: dict[str, list[int]]) -> np.ndarray:
    """Highest probability of each restricted group (image × group)."""
    logits = np.concatenate([network.logits(images[i : i + 64]) for i in range(0, len(images), 64)])
    chances = 1 / (1 + np.exp(-logits))
    return np.stack([chances[:, columns].max(1) for columns in groups.values()], 1)


def rates(
    found: np.ndarray, truth: np.ndarray, groups: list[str], threshold: float
) -> dict[str, Any]:
    """Sensitivity and specificity of every group, and of "anything restricted"."""
    said = found >= threshold
    answer = {}
    for i, group in enumerate([*groups, "any"]):
        yes = truth[:, i] if group != "any" else truth.any(1)
        hit = said[:, i] if group != "any" else said.any(1)
        answer[group] = {
            "sensitivity": Rate(count=int((hit & yes).sum()), n=int(yes.sum())).as_json(),
            "specificity": Rate(count=int((~hit & ~yes).sum()), n=int((~yes).sum())).as_json(),
        }
    return answer


def judge_rates(art: Artwork, network: Any, threshold: float) -> dict[str, Any]:
    """The judge on fresh pictures of the styles it knows, and on the style it never saw."""
    names = label_names(art)
    index = {name: i for i, name in enumerate(names)}
    by_group: dict[str, list[int]] = {}
    for concept in art.concepts.values():
        if concept["restricted"]:
            by_group.setdefault(concept["restricted"], []).append(index[concept["en"]])
    groups = sorted(by_group)
    columns = {group: by_group[group] for group in groups}
    answer: dict[str, Any] = {"threshold": threshold}
    for title, scenes in (("single things", 0.0), ("scenes", 1.0)):
        pixels, labels = pool(art, 2000, index, seed=99, scenes=scenes)
        truth = np.array([[bool(set(row) & set(columns[g])) for g in groups] for row in labels])
        found = flags(network, pictures_of(pixels), columns)
        answer[f"known styles, fresh {title}"] = rates(found, truth, groups, threshold)
        if scenes:
            parts = [half for picture in pictures_of(pixels) for half in world.halves(picture)]
            found = flags(network, parts, columns).reshape(len(pixels), 2, -1).max(1)
            answer["known styles, fresh scenes by halves"] = rates(found, truth, groups, threshold)
    rng = np.random.default_rng(7)
    unseen = [i for i, row in enumerate(art.table) if row["style"] == UNSEEN_STYLE]
    drawn = [to_bytes(single(art.pixels[i], "white", rng)) for i in unseen]
    shows = [index[art.concepts[art.table[i]["concept"]]["en"]] for i in unseen]
    truth = np.array([[shown in columns[g] for g in groups] for shown in shows])
    found = flags(network, pictures_of(np.stack(drawn)), columns)
    answer[f"unseen style {UNSEEN_STYLE}"] = rates(found, truth, groups, threshold)
    return answer


def draw(pipe: Any, prompts: list[str], steps: int, scale: float) -> list[Image.Image]:
    """Pictures; prompt i comes from seed i."""
    images: list[Image.Image] = []
    for start in range(0, len(prompts), 32):
        texts = prompts[start : start + 32]
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(texts))]
        images += pipe(
            texts, num_inference_steps=steps, guidance_scale=scale, generator=seeds
        ).images
    return images


def named(
    network: Any, images: list[Image.Image], wanted: list[set[str]], scenes: bool = False
) -> Rate:
    """How often the judge names everything that was asked."""
    look = world.shown_in_scenes if scenes else world.shown_in
    found = [s for i in range(0, len(images), 64) for s in look(network, images[i : i + 64])]
    return Rate(count=sum(w <= f for w, f in zip(wanted, found, strict=True)), n=len(images))


def generator_rates(
    art: Artwork, network: Any, pairs: int, steps: int, scale: float
) -> dict[str, Any]:
    """The bars of the text-to-image model."""
    pipe = world.pipeline()
    rng = np.random.default_rng(21)
    learned = [c for c in art.concepts.values() if not c["held_out"]]
    every = [(c, s) for c in learned for s in c["styles"]]
    chosen = [every[i] for i in rng.permutation(len(every))[:pairs]]
    began = time.monotonic()
    prompts = [f"{STYLE_NAMES[s]} emoji of {with_article(c['en'])}" for c, s in chosen]
    images = draw(pipe, prompts, steps, scale)
    seconds = (time.monotonic() - began) / len(images)
    answer: dict[str, Any] = {}

    def note(title: str, made: list[Image.Image], wanted: list[set[str]]) -> None:
        answer[title] = named(network, made, wanted).as_json()

    for title, kinds in (("", (True, False)), (", restricted", (True,)), (", harmless", (False,))):
        rows = [i for i, (c, _) in enumerate(chosen) if bool(c["restricted"]) in kinds]
        made, wanted = [images[i] for i in rows], [{chosen[i][0]["en"]} for i in rows]
        note(f"asked concept named, concept x style{title}", made, wanted)
    plain = [learned[i] for i in rng.permutation(len(learned))[: pairs // 2]]
    for language in ("en", "ja"):
        made = draw(pipe, [c[language] for c in plain], steps, scale)
        note(f"label alone, {language}", made, [{c["en"]} for c in plain])
    scenes = world.suite("scenes").prompts
    made = draw(pipe, [p.text for p in scenes], steps, scale)
    answer["scenes with all named objects, judged by halves"] = named(
        network, made, [set(p.objects) for p in scenes], scenes=True
    ).as_json()
    return {"steps": steps, "guidance_scale": scale, "seconds per picture": seconds, **answer}


def main() -> None:
    """Measures and writes both cards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--concepts", type=int, default=300)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, default=7.5)
    args = parser.parse_args()
    art = Artwork.load(args.work / "data")
    kids = Policy.load("kids")
    judge = classifier.load(
        concepts=kids.concepts, ref=str(world.folder("judge")), device="cpu", dtype=None
    )
    network = judge.network
    card = judge_rates(art, network, 0.5)
    groups: dict[str, list[str]] = {}
    for concept in art.concepts.values():
        if concept["restricted"]:
            groups.setdefault(concept["restricted"], []).append(concept["en"])
    content = {
        "temperature": 1.0,
        "thresholds": dict.fromkeys(groups, 0.5),
        "labels": groups,
        "measured": card,
    }
    (WORLD / "judge" / "judge.json").write_text(json.dumps(content, indent=1) + "\n")
    began = time.monotonic()
    generator = generator_rates(art, network, args.concepts, args.steps, args.scale)
    DOCS.mkdir(parents=True, exist_ok=True)
    both = {"judge": card, "generator": generator}
    (DOCS / "card.json").write_text(json.dumps(both, indent=1) + "\n")
    print(json.dumps(generator, indent=1), f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
