"""Peak memory: of the accelerator where there is one, else of the whole process."""

from __future__ import annotations

from collections.abc import Sequence

from tadasu.evaluation.metrics.metric import Cell, Context, Row

title = "Peak memory"
title_ja = "最大メモリ"
better = "lower"
axis = "cost"
unit = "bytes"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """The largest peak that was seen; it grows over a process's life, so it has no interval."""
    del context
    told = [row.memory for row in rows if row.memory is not None]
    if not told:
        return None
    largest = float(max(told))
    return Cell(
        metric="memory",
        system="",
        suite="",
        value=largest,
        low=largest,
        high=largest,
        n=len(told),
        prompts=len({row.prompt for row in rows}),
        method="a maximum, no interval",
        card="measured, no judge",
    )
