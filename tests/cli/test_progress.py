"""Progress is seen with and without a terminal, and says how long it still takes."""

from __future__ import annotations

import pytest

from tadasu.cli.progress import PAUSE, Lines, counted


def test_lines_say_what_is_left_and_do_not_flood() -> None:
    now, written = 0.0, list[str]()
    lines = Lines(clock=lambda: now, write=written.append)
    for done in range(101):
        now = done * 2.0
        lines("Drawing", done, 100)
    assert written[0] == "Drawing 5/100, 3 min left"
    assert len(written) == 200 / PAUSE - 1
    assert written[-1] == "Drawing 95/100, 10 s left"


def test_quick_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted(iter("abc"), "Drawing", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
