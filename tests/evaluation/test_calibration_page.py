"""The calibration's page: curves and operating point stand where the numbers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tadasu.evaluation.calibration_page import EDGE, SIDE, line, place, write
from tadasu.statistics.risk_control import Promise
from tadasu.statistics.thresholds import Score, find


def test_corners_of_the_plot() -> None:
    assert place(0, 0) == (EDGE, EDGE + SIDE)
    assert place(1, 1) == (EDGE + SIDE, EDGE)


def test_a_score_that_flags_below_is_turned() -> None:
    truth = np.array([True] * 3 + [False] * 3)
    tested = np.ones(6, dtype=bool)
    low = Score(name="reward", values=np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]), flags="below")
    made = line(low, tested, truth, "#000")
    assert made.area.estimate == 1.0
    first, *_, last = made.points.split()
    assert first == f"{EDGE:.1f},{EDGE + SIDE:.1f}"
    assert last == f"{EDGE + SIDE:.1f},{EDGE:.1f}"


def test_names_of_columns_are_only_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2 == 0
    score = Score(name="<script>alert(1)</script>", values=rng.normal(size=200) + 4 * truth)
    promise = Promise(limit=0.1)
    found = find([score], truth, [promise])
    file = tmp_path / "page.html"
    write(file, [score], truth, found, title=("a", "b"), promises=[("c", "d")], confidence=0.95)
    text = file.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert found.certificate.missed is not None
    assert found.certificate.false_alarms is not None
    x, y = place(found.certificate.false_alarms.estimate, 1 - found.certificate.missed.estimate)
    assert f'cx="{x:.1f}" cy="{y:.1f}"' in text
    assert not file.with_suffix(".partial").exists()
