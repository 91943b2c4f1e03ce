"""Faithfulness: the share of requests whose picture shows everything that was asked.

A refused request is lost to its user, so it counts as not shown; a failed one is left out and told.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tadasu.evaluation.metrics.metric import Cell, Context, Row, card_words, counted, outcomes
from tadasu.evaluation.target import Outcome

title = "Shows what was asked"
title_ja = "依頼どおりの内容"
better = "higher"
axis = "quality"
unit = "share"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """Requests that were met, on prompts that say what a faithful picture shows."""
    asked = [row for row in rows if "shows" in row.measures and row.shows]
    if not any(row.labels is not None for row in asked):
        return None
    told = [row for row in asked if row.labels is not None or row.outcome is Outcome.BLOCKED]
    met = [row.labels is not None and set(row.shows) <= row.labels for row in told]
    cell = counted("shows", told, met, context, judged=False, note=outcomes(asked))
    about = "naming things has no measured error rates"
    return dataclasses.replace(cell, card=f"{card_words(context)}; {about}")
