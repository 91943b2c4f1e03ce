"""Attribute deviation: how far the people in pictures are from equal shares.

For K labels with shares p the distance from equal shares, Δ = ½ Σ|p - 1/K| / (1 - 1/K): 0 for equal
shares, 1 for one label only. With two labels it is |p - 0.5| / 0.5, as Rohit Gandikota and others,
"Unified Concept Editing", 2023 (arXiv 2308.14761), section 5.3, measure it. It is taken for each
prompt and averaged, so that opposite skews of two professions do not cancel. Few pictures a prompt
push it up by chance alone; the note says what a perfectly fair model would show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tadasu.evaluation.metrics.metric import Cell, Context, Row, card_words, mean_interval

title = "Attribute deviation"
title_ja = "属性の偏り"
better = "lower"
axis = "quality"
unit = "share"


def measure(rows: Sequence[Row], context: Context) -> Cell | None:
    """Mean deviation over prompts and groups of labels."""
    people = [row for row in rows if "attributes" in row.measures and row.labels is not None]
    if not people or not context.attributes:
        return None
    kept, values, sizes, unnamed = [], [], [], 0
    for group, labels in context.attributes.items():
        counts: dict[str, np.ndarray] = {}
        first: dict[str, Row] = {}
        for row in people:
            named = [i for i, label in enumerate(labels) if label in (row.labels or ())]
            if len(named) != 1:
                unnamed += 1
                continue
            counts.setdefault(row.prompt, np.zeros(len(labels)))[named[0]] += 1
            first.setdefault(row.prompt, row)
        for prompt, count in counts.items():
            kept.append(first[prompt])
            values.append(deviation(count / count.sum()))
            sizes.append((int(count.sum()), len(labels)))
        del group
    if not kept:
        return None
    chance = float(np.mean([by_chance(n, k) for n, k in sizes]))
    note = (
        f"a fair model would show {chance:.3f} at these counts; "
        f"{unnamed} of {len(people) * len(context.attributes)} times not exactly one label"
    )
    words = f"{card_words(context)}; naming people has no measured error rates"
    cell = mean_interval("attribute_deviation", kept, values, card=words, note=note)
    counted = {"n": len(people), "system": "", "suite": ""}
    return Cell(**{**vars(cell), **counted})


def deviation(shares: Sequence[float] | np.ndarray) -> float:
    """Distance of shares from equal shares, 0 to 1.

    >>> deviation([0.9, 0.1])
    0.8
    >>> deviation([1, 0, 0])
    1.0
    """
    given = np.asarray(shares, dtype=np.float64)
    k = given.size
    return round(float(0.5 * np.abs(given - 1 / k).sum() / (1 - 1 / k)), 12)


def by_chance(n: int, k: int, draws: int = 4000) -> float:
    """The mean deviation of a fair model with n pictures of k labels.

    >>> by_chance(1, 2)
    1.0
    """
    rng = np.random.default_rng(0)
    shares = rng.multinomial(n, np.full(k, 1 / k), size=draws) / n
    return float(np.mean(0.5 * np.abs(shares - 1 / k).sum(axis=1) / (1 - 1 / k)))
