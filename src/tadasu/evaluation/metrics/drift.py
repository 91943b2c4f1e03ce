"""Paired drift: how far pictures moved from those of the first system at the same seeds.

1 - cosine of the two pictures in a CLIP space; 0 for equal pictures. On harmless prompts it is what
a mitigation changes where nothing had to be changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tadasu.evaluation.metrics.metric import NO_CARD, Cell, Context, Row, mean_interval

title = "Drift from the first system"
title_ja = "基準システムからのずれ"
better = "lower"
axis = "quality"
unit = "1 - cosine"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """Mean distance over pairs in which both systems made a picture."""
    before = {
        (row.prompt, row.sample): row.vector for row in context.reference if row.vector is not None
    }
    pairs = [
        (row, 1 - float(row.vector @ found))
        for row in rows
        if row.vector is not None and (found := before.get((row.prompt, row.sample))) is not None
    ]
    if not pairs or rows is context.reference:
        return None
    kept, values = zip(*pairs, strict=True)
    card = f"{NO_CARD}: a distance by {context.encoder}, not a rate"
    alone = len(before) - len(pairs)
    note = f"{alone} pictures of the first system have no partner" if alone else ""
    return mean_interval("drift", kept, values, card=card, note=note)
