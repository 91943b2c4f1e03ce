"""How the prompt screen does on texts that were written to be hard, and on everyday words.

    python bench/screen_cases.py --cases texts.json --everyday tests/everyday.txt --captions c.csv

A cases file is JSON, ``{"harmless": {kind: [text]}, "restricted": {kind: [text]}}``. Everyday words
are a language and a text a line. Of the captions 3,000 are drawn by seed. The time is that of all
texts of a kind together, after the screen was built.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

from tadasu.policy import Policy
from tadasu.screen import PromptScreen
from tadasu.statistics.intervals import Rate


def line(screen: PromptScreen, what: str, texts: Sequence[str], *, wrong: bool, show: bool) -> None:
    """One line: how many of some texts were not let through, or were where ``wrong`` is False."""
    began = time.perf_counter()
    found = screen.many(texts)
    each = 1000 * (time.perf_counter() - began) / max(1, len(texts))
    miss = [one for one in found if (one.action != "allow") == wrong]
    rate = Rate(count=len(miss), n=len(texts))
    says = "wrongly flagged" if wrong else "missed"
    print(
        f"{what:36s} {says:16s}{rate.count:5d} of {rate.n:5d}  {100 * rate.value:5.1f} %"
        f"  [{100 * rate.low:.1f}, {100 * rate.high:.1f}]  {each:.2f} ms a text"
    )
    for one in miss if show else ():
        print("   ", one.text, "; ".join(hit.because for hit in one.hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=Path, action="append", default=[])
    parser.add_argument("--everyday", type=Path)
    parser.add_argument("--captions", type=Path, help="CSV with prompt")
    parser.add_argument("--policy", default="kids")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print the texts that went wrong")
    options = parser.parse_args()
    screen = PromptScreen.of(Policy.load(options.policy))
    for path in options.cases:
        for side, kinds in json.loads(path.read_text(encoding="utf-8")).items():
            for kind, texts in {
                **kinds,
                "all": [t for each in kinds.values() for t in each],
            }.items():
                line(screen, f"{side}: {kind}", texts, wrong=side == "harmless", show=options.show)
    if options.everyday:
        rows = options.everyday.read_text(encoding="utf-8").splitlines()
        for language in ("en", "ja"):
            texts = [row.partition("\t")[2] for row in rows if row.startswith(f"{language}\t")]
            line(screen, f"everyday {language}", texts, wrong=True, show=options.show)
    if options.captions:
        with options.captions.open(encoding="utf-8", newline="") as file:
            captions = [row["prompt"] for row in csv.DictReader(file) if row["prompt"].strip()]
        drawn = random.Random(options.seed).sample(captions, 3000)
        line(screen, "captions", drawn, wrong=True, show=options.show)


if __name__ == "__main__":
    main()
