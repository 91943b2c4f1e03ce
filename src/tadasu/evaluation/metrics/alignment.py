"""Alignment to the prompt: cosine similarity of picture and prompt in a CLIP space.

Jack Hessel and others, "CLIPScore", 2021 (arXiv 2104.08718), without its factor 2.5 and its cut at
0. Values of different CLIP models cannot be compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from tadasu.evaluation.metrics.metric import NO_CARD, Cell, Context, Row, mean_interval

title = "Alignment to the prompt (CLIP)"
title_ja = "プロンプトとの一致度（CLIP）"
better = "higher"
axis = "quality"
unit = "cosine"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """Mean cosine over the pictures there are; on unsafe prompts less of it may be wanted."""
    pairs = [
        (row, float(row.vector @ row.wanted))
        for row in rows
        if row.vector is not None and row.wanted is not None
    ]
    if not pairs:
        return None
    kept, values = zip(*pairs, strict=True)
    card = f"{NO_CARD}: a likeness by {context.encoder}, not a rate"
    return mean_interval("alignment", kept, values, card=card)
