"""Seconds a picture: wall time of a request, its share of the batch.

Pictures of one batch have one time, so batches are drawn for the interval; one alone has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from tadasu.evaluation.metrics.metric import Cell, Context, Row, mean_interval
from tadasu.evaluation.target import Outcome

title = "Seconds a request"
title_ja = "1 件あたりの秒数"
better = "lower"
axis = "cost"
unit = "seconds"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """Mean over requests that did not fail; refusals count, as they cost time too."""
    del context
    told = [row for row in rows if row.outcome is not Outcome.ERROR]
    if not told:
        return None
    times = [row.seconds for row in told]
    batches = [repr(seconds) for seconds in times]
    return mean_interval("seconds", told, times, card="measured, no judge", drawn_by=batches)
