"""Reports: every number with n, interval and card; a page that needs no network."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadasu.errors import BadFile, BadInput, MissingPart
from tadasu.evaluation.evaluate import run
from tadasu.evaluation.judge import Card, Judge
from tadasu.evaluation.report.charts import pareto
from tadasu.evaluation.report.gathered import gather
from tadasu.evaluation.results import Run
from tadasu.evaluation.scripted import Redness, Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite
from tadasu.statistics.rogan_gladen import ErrorRates

RATES = ErrorRates(caught=90, unsafe=100, passed=95, safe=100)
CARD = Card(data="plain reds", measured="2026-11-21", whole={"any": RATES})


class Means:
    """An encoder of colours and of nothing in texts."""

    content = "sha256:0"

    def encode_images(self, images: Sequence[Any]) -> np.ndarray:
        return np.array([np.asarray(image)[0, 0] for image in images], dtype=np.float32) + 1

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 3), dtype=np.float32)


def suite(id: str, *measures: Any) -> Suite:
    prompts = tuple(Prompt(id=str(i), text=f"{id} <{i}>|", seed=i) for i in range(12))
    return Suite(id=id, prompts=prompts, measures=measures, about=f"About {id}.")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    blocked = tuple(f"bad <{i}>|" for i in range(6))
    return run(
        systems=[Scripted(name="plain", side=64), Scripted(name="<list>", blocks=blocked)],
        suites=[suite("bad", "unsafe"), suite("good", "shows")],
        judges=[
            Judge(name="red", detector=Redness(), thresholds={"red": 0.5}, card=CARD),
            Judge(name="uncarded", detector=Redness(concept="r"), thresholds={"r": 0.7}),
        ],
        encoder=Means(),
        folder=tmp_path_factory.mktemp("run"),
    )


def test_every_cell_has_n_interval_and_card(done: Run) -> None:
    found = gather(done)
    names = [(table.name, table.judge) for table in found.tables]
    assert ("inappropriate_probability", "red") in names
    assert ("inappropriate_probability", "uncarded") in names
    for table in found.tables:
        for cell in table.cells.values():
            assert cell.n > 0
            assert cell.card
            assert cell.low is not None
            assert cell.value is not None
            assert cell.low <= cell.value
    cards = {table.judge: table.cards for table in found.tables if table.name.endswith("lity")}
    assert cards["uncarded"] == ("no judge card",)
    assert "90/100" in cards["red"][0]


def test_the_page_is_whole_and_asks_no_network(done: Run, tmp_path: Path) -> None:
    pytest.importorskip("altair")
    file = tmp_path / "report.html"
    done.report(file)
    text = file.read_text(encoding="utf-8")
    assert file.stat().st_size < 2_000_000
    assert "default-src 'none'" in text
    markup = text.split("<script>")[0]  # what follows are the libraries, which quote markup
    assert not re.findall(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["'](?!data:)""", markup)
    assert not re.findall(r"@import|url\((?!data:)", markup)
    assert "&lt;list&gt;" in text
    assert "<list>" not in markup  # a name is no markup
    assert text.count('class="veil"') >= 1
    assert "no judge card" in text
    assert "安全性と過剰拒否" in text
    for part in ("vegaEmbed(", "<h2>", "</html>"):
        assert part in text
    assert list(tmp_path.iterdir()) == [file]


def test_the_chart_can_be_drawn(done: Run) -> None:
    pytest.importorskip("altair")
    vl_convert = pytest.importorskip("vl_convert")
    chart = pareto(gather(done).points)
    drawn = vl_convert.vegalite_to_svg(chart.to_dict())
    assert "Unsafe pictures served" in drawn
    assert "&lt;list&gt;" in drawn


def test_the_front_is_who_nobody_beats(done: Run) -> None:
    points = {point.system: point for point in gather(done).points}
    assert points["<list>"].unsafe is not None
    assert points["plain"].unsafe is not None
    assert points["<list>"].unsafe.value is not None
    assert points["plain"].unsafe.value is not None
    assert points["<list>"].unsafe.value < points["plain"].unsafe.value
    assert points["<list>"].front


def test_markdown_and_spreadsheet_say_the_same(done: Run, tmp_path: Path) -> None:
    for name in ("r.md", "r.csv"):
        done.report(tmp_path / name)
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text(encoding="utf-8"))))
    assert len(lines) == sum(len(table.cells) for table in gather(done).tables)
    (line,) = (
        each
        for each in lines
        if (each["metric"], each["system"], each["judge"])
        == ("inappropriate_probability", "<list>", "red")
    )
    assert f"{100 * float(line['value']):.1f} % [" in text
    assert f"n={line['n']} (a)" in text
    assert "6 blocked" in line["note"]
    assert "&lt;list>" in text
    assert float(line["corrected"]) != float(line["value"])


def test_a_spreadsheet_runs_no_formula() -> None:
    from tadasu.evaluation.report.spreadsheet import _tame

    assert _tame("=1+1") == "'=1+1"
    assert _tame(-1.5) == -1.5


def test_bad_targets_are_refused(
    done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match=r"ends in .html"):
        done.report(tmp_path / "report.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(BadFile, match="Cannot write"):
        done.report(tmp_path / "file" / "report.md")
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingPart, match=r"tadasu\[evaluate\]"):
        done.report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_large_pictures_become_small_ones() -> None:
    from tadasu.evaluation.report.page import data_uri

    assert len(data_uri(Image.new("RGB", (1024, 512)))) < 2000
