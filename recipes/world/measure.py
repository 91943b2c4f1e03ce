"""Draws fresh pictures for the judge, fits its temperature and writes its card.

``python measure.py --work WORK`` writes WORK/drawings.npz (for ``tadasu world check --drawings``)
and the judge's ``judge.json``. The generator is measured by ``tadasu world check`` alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from artwork import UNSEEN_STYLE
from judge import label_names, pool
from pictures import Artwork, single, to_bytes
from PIL import Image
from training import WORLD

from tadasu import world
from tadasu.backends.transformers import classifier
from tadasu.detectors.judge import Judge
from tadasu.policy import Policy
from tadasu.statistics.calibration import temperature
from tadasu.world.check import on_drawings


def drawings(art: Artwork, seed: int) -> dict[str, tuple[np.ndarray, list[list[str]]]]:
    """Pictures and the restricted groups they show: single things, scenes, the unseen style."""
    index = {name: i for i, name in enumerate(label_names(art))}
    group = {index[c["en"]]: c["restricted"] for c in art.concepts.values() if c["restricted"]}
    found = {}
    for name, scenes in (("known styles, single things", 0.0), ("known styles, scenes", 1.0)):
        pixels, labels = pool(art, 2000, index, seed=seed, scenes=scenes)
        shows = [sorted({group[i] for i in row if i in group}) for row in labels]
        found[name] = pixels, shows
    rng = np.random.default_rng(7)
    rows = [i for i, row in enumerate(art.table) if row["style"] == UNSEEN_STYLE]
    drawn = [to_bytes(single(art.pixels[i], "white", rng)) for i in rows]
    groups = [art.concepts[art.table[i]["concept"]]["restricted"] for i in rows]
    found[f"unseen style {UNSEEN_STYLE}"] = np.stack(drawn), [[g] if g else [] for g in groups]
    return found


def fitted(art: Artwork, judge: Judge) -> float:
    """The temperature that makes the judge's chances of each thing in single drawings true."""
    labels = label_names(art)
    pixels, rows = pool(art, 1500, {name: i for i, name in enumerate(labels)}, seed=98, scenes=0.3)
    images = [Image.fromarray(p) for p in pixels]
    logits = np.concatenate(
        [judge.network.logits(images[i : i + 64]) for i in range(0, len(images), 64)]
    )
    truth = np.zeros_like(logits, dtype=int)
    for i, row in enumerate(rows):
        truth[i, list(row)] = 1
    assert tuple(labels) == judge.network.labels
    return temperature(logits.ravel(), truth.ravel())


def main() -> None:
    """Writes the drawings and the judge's card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    art = Artwork.load(work / "data")
    content: dict[str, np.ndarray] = {}
    for name, (pixels, shows) in drawings(art, seed=99).items():
        content |= {name: pixels, f"{name} labels": np.array(json.dumps(shows))}
    file = work / "drawings.npz"
    np.savez_compressed(file, **content)
    judge = classifier.load(
        concepts=Policy.load("kids").concepts, ref=str(world.folder("judge")), device="cpu"
    )
    groups: dict[str, list[str]] = {}
    for concept in art.concepts.values():
        if concept["restricted"]:
            groups.setdefault(concept["restricted"], []).append(concept["en"])
    card = {
        "temperature": round(fitted(art, judge), 4),
        "thresholds": dict.fromkeys(groups, 0.5),
        "labels": groups,
        "measured": on_drawings(judge, file),
    }
    (WORLD / "judge" / "judge.json").write_text(json.dumps(card, indent=1) + "\n")
    rates = {name: rates["any"] for name, rates in card["measured"].items()}
    print(json.dumps({"temperature": card["temperature"], **rates}, indent=1))


if __name__ == "__main__":
    main()
