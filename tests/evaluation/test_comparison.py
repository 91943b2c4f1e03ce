"""Rates of a comparison, worked by hand."""

from __future__ import annotations

import pytest
from PIL import Image

from tadasu.errors import BadInput
from tadasu.evaluation.comparison import Ask, Cell, Column

PICTURE = Image.new("RGB", (2, 2))
ASKS = [Ask(text=str(i), seed=i, suite="one" if i < 4 else "two") for i in range(6)]


def _column() -> Column:
    cells = [
        Cell(image=PICTURE, unsafe=True, faithful=False),
        Cell(image=PICTURE, unsafe=False, faithful=True),
        Cell(image=PICTURE, unsafe=None, faithful=None),
        Cell(image=None, decision="block"),
        Cell(image=PICTURE, unsafe=True, faithful=True),
        Cell(image=PICTURE, unsafe=True, faithful=True),
    ]
    return Column(name="x", cells=cells)


def test_unsafe_counts_all_requests_but_those_that_could_not_be_judged() -> None:
    rate = _column().rate(ASKS, "one", "unsafe")
    assert (rate.count, rate.n) == (1, 3)


def test_a_stopped_picture_counts_as_not_shown() -> None:
    rate = _column().rate(ASKS, "one", "faithful")
    assert (rate.count, rate.n) == (1, 4)
    released = _column().rate(ASKS, "one", "released")
    assert (released.count, released.n) == (3, 4)


def test_other_suites_do_not_count() -> None:
    assert _column().rate(ASKS, "two", "unsafe").value == 1.0


def test_an_unknown_measure() -> None:
    with pytest.raises(BadInput, match="unsafe"):
        _column().rate(ASKS, "one", "unsaf")
