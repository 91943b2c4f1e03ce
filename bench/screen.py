"""How much of I2P the prompt screen finds, and how many harmless captions it flags wrongly.

    python bench/screen.py --i2p i2p.csv --captions coco_30k.csv

The aliases and thresholds of the bundled ``i2p`` policy were tuned on the even rows of both files
(counted from 0); what is reported by default are the odd rows. ``styled`` captions are harmless
captions with the style words of art prompts appended: I2P's prompts are art prompts and plain
captions are not, so without them a screen that merely notices style would look good.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tadasu.concepts import I2P
from tadasu.policy import Policy
from tadasu.screen import PromptScreen
from tadasu.statistics.intervals import Rate

STYLE = (
    "illustration|digital art|concept art|oil painting|oil on canvas|watercolor painting|"
    "pencil sketch|anime style|cartoon|comic book style|photorealistic|hyperrealistic|"
    "highly detailed|extremely detailed|intricate details|ultra realistic|sharp focus|smooth|8 k|"
    "4 k resolution|hd|octane render|unreal engine|volumetric lighting|cinematic lighting|"
    "dramatic lighting|soft light|rim lighting|golden hour|trending on artstation|deviantart|"
    "award winning photograph|masterpiece|elegant|beautiful composition|rule of thirds|"
    "35 mm film photography|bokeh|depth of field|wide angle lens|black and white|vibrant colors|"
    "pastel colors|moody atmosphere|surrealism|expressionism|impressionism|baroque|art nouveau|"
    "cyberpunk|steampunk|fantasy|sci - fi|studio ghibli|pixar style|low poly|pixel art|"
    "matte painting|full body|close up portrait|symmetrical face|by greg rutkowski|"
    "by alphonse mucha|by norman rockwell|by edward hopper|art by artgerm and wlop|"
    "by makoto shinkai|in the style of van gogh|by rembrandt|by james gurney|"
    "style of zdzislaw beksinski|ralph mcquarrie|moebius|film still|polaroid|vintage poster|"
    "minimalist|foggy|dark background|award winning|contrast|cinematic|dramatic|detailed face"
).split("|")
KINDS = ("a painting of", "a portrait of", "an illustration of", "a photo of")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def styled(caption: str, chance: random.Random) -> str:
    words = chance.sample(STYLE, chance.randint(2, 7))
    kind = chance.choice(("", "", *KINDS))
    return ", ".join([f"{kind} {caption.rstrip(' .').lower()}".strip(), *words])


def flags(screen: PromptScreen, texts: Sequence[str], says: str) -> list[bool]:
    found: list[bool] = []
    for start in range(0, len(texts), 200):
        batch = screen.many(texts[start : start + 200])
        found += [each.action != "allow" for each in batch]
        print(f"\r{says}: {len(found)} of {len(texts)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return found


def line(name: str, flagged: Sequence[bool]) -> dict[str, object]:
    rate = Rate(count=sum(flagged), n=len(flagged))
    print(
        f"{name:34s} {rate.count:5d} of {rate.n:5d}   {100 * rate.value:5.1f} %"
        f"   [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    )
    return {"what": name, "count": rate.count, "n": rate.n, "low": rate.low, "high": rate.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--i2p", type=Path, required=True, help="CSV with prompt and categories")
    parser.add_argument("--captions", type=Path, required=True, help="CSV with prompt")
    parser.add_argument("--policy", default="i2p")
    parser.add_argument("--rows", choices=("odd", "even", "all"), default="odd")
    parser.add_argument("--meaning", action="store_true", help="with the sentence embedder too")
    parser.add_argument("--limit", type=int, help="at most so many captions of either kind")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()

    keep = {"odd": slice(1, None, 2), "even": slice(0, None, 2), "all": slice(None)}[options.rows]
    prompts = [row for row in read(options.i2p)[keep] if row["prompt"].strip()]
    captions = [row["prompt"] for row in read(options.captions)[keep] if row["prompt"].strip()]
    if options.limit:
        captions = captions[:: max(1, len(captions) // options.limit)][: options.limit]
    chance = random.Random(0)
    art = [styled(caption, chance) for caption in captions[: min(len(captions), 3000)]]

    embedder = None
    if options.meaning:
        from tadasu.backends.transformers.sentences import minilm

        embedder = minilm()
    screen = PromptScreen(Policy.load(options.policy), embedder)
    print(f"policy {options.policy}, {options.rows} rows, names{' + minilm' if embedder else ''}")
    flagged = flags(screen, [row["prompt"] for row in prompts], "I2P")
    figures = []
    for category in I2P:
        of_it = [
            hit
            for hit, row in zip(flagged, prompts, strict=True)
            if category in row["categories"].split(", ")
        ]
        figures.append(line(f"I2P {category}", of_it))
    figures.append(line("I2P all", flagged))
    figures.append(line("captions flagged wrongly", flags(screen, captions, "captions")))
    figures.append(line("styled captions flagged wrongly", flags(screen, art, "styled")))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
