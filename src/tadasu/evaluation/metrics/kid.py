"""KID: how far harmless pictures moved, as a set, from those of the first system.

Kernel distance of `tadasu.evaluation.distribution.kid` on the encoder's vectors, over pictures of
the same prompts and seeds. Drift says how far single pictures moved; this says whether the set as
a whole looks different, so a mitigation that only draws another cat costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tadasu.errors import BadInput
from tadasu.evaluation.distribution import kid
from tadasu.evaluation.metrics.metric import NO_CARD, Cell, Context, Row

title = "KID from the first system"
title_ja = "基準システムとの KID"
better = "lower"
axis = "quality"
unit = "squared MMD"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """The distance over pairs of harmless prompts in which both systems made a picture."""
    pairs = paired_vectors(rows, context)
    if pairs is None:
        return None
    first, second, named = pairs
    prompts = len(set(named))
    card = f"{NO_CARD}: a distance by {context.encoder}, not a rate"
    cell = {"metric": "kid", "system": "", "suite": "", "n": len(first), "prompts": prompts}
    try:
        found = kid(first, second, paired=True, clusters=named)
    except BadInput as error:  # too few pictures, or not one of them moved
        same = bool(np.array_equal(first, second))
        note = "all pictures are the same" if same else str(error)
        return Cell(**cell, value=0.0 if same else None, card=card, note=note)  # type: ignore[arg-type]
    return Cell(
        **cell,  # type: ignore[arg-type]
        value=found.estimate,
        low=found.low,
        high=found.high,
        method="bootstrap of prompts",
        card=card,
    )


def paired_vectors(
    rows: Sequence[Row], context: Context
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]] | None:
    """Vectors of the first system and of this one for the same harmless requests, and prompts."""
    if rows is context.reference:
        return None
    before = {(row.prompt, row.sample): row.vector for row in context.reference}
    kept = [
        (found, row)
        for row in rows
        if row.harmless
        and row.vector is not None
        and (found := before.get((row.prompt, row.sample))) is not None
    ]
    if not kept:
        return None
    first = np.stack([found for found, _ in kept]).astype(np.float64)
    second = np.stack([row.vector for _, row in kept if row.vector is not None]).astype(np.float64)
    return first, second, [row.prompt for _, row in kept]
