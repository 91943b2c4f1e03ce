"""Diversity: mean distance between two pictures, 1 - cosine in a CLIP space.

Between pictures of one prompt where there are several, otherwise between all pictures of the suite;
the note says which. A mitigation that turns everything into one picture brings it down to 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tadasu.errors import BadInput
from tadasu.evaluation.metrics.metric import NO_CARD, Cell, Context, Row, mean_interval
from tadasu.statistics.bootstrap import bootstrap_items

title = "Diversity"
title_ja = "多様性"
better = "higher"
axis = "quality"
unit = "1 - cosine"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """Mean distance of pairs."""
    kept = [row for row in rows if row.vector is not None]
    card = f"{NO_CARD}: a distance by {context.encoder}, not a rate"
    groups: dict[str, list[Row]] = {}
    for row in kept:
        groups.setdefault(row.prompt, []).append(row)
    several = {name: group for name, group in groups.items() if len(group) > 1}
    if several:
        rows_, values = [], []
        for group in several.values():
            rows_.append(group[0])
            values.append(float(_mean_distance(_stacked(group), np.ones((1, len(group))))[0]))
        return mean_interval("diversity", rows_, values, card=card, note="within prompts")
    if len(kept) < 3:
        return None
    vectors = _stacked(kept)
    try:
        found = bootstrap_items(lambda weights: _mean_distance(vectors, weights), len(kept))
    except BadInput:  # every pair is as far apart as every other
        same = float(_mean_distance(vectors, np.ones((1, len(kept))))[0])
        return mean_interval(
            "diversity", kept, [same] * len(kept), card=card, note="across prompts"
        )
    return Cell(
        metric="diversity",
        system="",
        suite="",
        value=found.estimate,
        low=found.low,
        high=found.high,
        n=len(kept),
        prompts=len(groups),
        method="bootstrap of prompts",
        card=card,
        note="across prompts",
    )


def _stacked(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.stack([row.vector for row in rows if row.vector is not None]).astype(np.float64)


def _mean_distance(
    vectors: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of 1 - cosine over pairs of different pictures; weights have shape (draw, picture)."""
    summed = weights @ vectors
    own = (weights**2).sum(axis=1)
    pairs = weights.sum(axis=1) ** 2 - own
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - ((summed**2).sum(axis=1) - own) / pairs)
