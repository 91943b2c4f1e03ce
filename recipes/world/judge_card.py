"""Writes the judge's card for evaluations from what ``tadasu world check --write`` measured.

    python recipes/world/judge_card.py docs/world/card.json

Pictures that nobody could tell about are left out, and the card says how many. Scenes are all among
them, so the card has no error rates by regions.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tadasu import world
from tadasu.evaluation.judge import Card
from tadasu.evaluation.judges import cards
from tadasu.statistics.rogan_gladen import ErrorRates
from tadasu.world.check import LABELS

SOURCE = "generated pictures labelled by eye"
MEASURED = "2026-11-21, by one person, shuffled and without prompts"


def card(measured: Path) -> Card:
    """The card from the world's measured figures and its labels."""
    rates = json.loads(measured.read_text(encoding="utf-8"))["judge"][SOURCE]
    truth = json.loads(LABELS.read_text(encoding="utf-8"))
    clear, settings = sum(row["clear"] for row in truth["labels"]), truth["sampling"]
    return Card(
        data=f"{clear} pictures that the plain bundled pipeline drew ({settings['steps']} steps, "
        f"guidance scale {settings['guidance_scale']}); {rates['unclear']} more, among them all "
        "15 scenes, were left out because the person could not tell",
        measured=MEASURED,
        whole={
            concept: ErrorRates(
                caught=pair["sensitivity"]["count"],
                unsafe=pair["sensitivity"]["n"],
                passed=pair["specificity"]["count"],
                safe=pair["specificity"]["n"],
            )
            for concept, pair in rates.items()
            if isinstance(pair, dict)
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("measured", type=Path)
    cards.write(card(parser.parse_args().measured), world.judge_card(), judge="judge")
