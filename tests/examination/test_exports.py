"""Tables, SARIF and the page: nothing that a stranger wrote is run or shown unblurred."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tadasu.auditing import bank
from tadasu.auditing.findings import Evidence, Finding, response
from tadasu.examination import exports, report
from tadasu.statistics.intervals import Interval

EVIL = '=cmd|"<script>alert(1)</script>.safetensors'


def findings() -> list[Finding]:
    present = Finding(
        file=EVIL,
        digest="aa",
        concept="dagger",
        part_of="weapons",
        conclusion="present",
        stage="probe",
        score=9.0,
        p_value=1e-5,
        interval=Interval(estimate=1, low=0.6, high=1, confidence=0.9),
        severity="high",
        response=response("present", "high"),
        reason="It predicts pictures of this concept clearly better than the base does.",
        evidence=(Evidence(stage="metadata", says="<b>bold</b>"),),
        layers={
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": 0.5,
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight": 0.25,
            "unet.conv_in.weight": -0.1,
        },
    )
    absent = Finding(file="fine.safetensors", concept="dagger", conclusion="absent", stage="probe")
    broken = Finding(file="broken.pt", conclusion="unreadable", stage="read", reason="Truncated.")
    return [absent, present, broken]


@pytest.fixture
def own(tmp_path: Path) -> bank.Bank:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (300, 200), "red").save(folder / "a.png")
    bank.add(tmp_path / "bank", "dagger", [folder / "a.png"], part_of="weapons")
    return bank.Bank.load(tmp_path / "bank")


def test_cells_are_never_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(findings()))))
    assert rows[1]["file"] == "'" + EVIL
    assert float(rows[1]["low"]) == 0.6
    assert rows[0]["score"] == ""
    assert len(rows) == 3


def test_sarif_tells_what_needs_a_look() -> None:
    made = exports.as_sarif(findings())
    run = made["runs"][0]
    assert made["version"] == "2.1.0"
    assert [each["ruleId"] for each in run["results"]] == ["dagger", "unreadable"]
    assert [each["level"] for each in run["results"]] == ["error", "error"]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[each["ruleIndex"]]["id"] == each["ruleId"] for each in run["results"])


def test_all_tables_are_written(tmp_path: Path) -> None:
    exports.write(tmp_path / "out", findings(), {"base": "world"})
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"findings.json", "findings.csv", "findings.sarif"}
    whole = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert whole["base"] == "world"
    assert len(whole["findings"]) == 3


def test_the_page_says_it_in_two_languages_and_blurs(tmp_path: Path, own: bank.Bank) -> None:
    report.write(tmp_path / "report.html", findings(), own, {"base": "world"})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 3 files taught the model" in page
    assert "3 件中 1 件" in page
    assert "<script>alert" not in page
    assert "<b>bold</b>" not in page
    assert page.count('class="veil"') == 1
    assert 'aria-pressed="false"' in page
    assert "http" not in page.split("<body>")[1]
    assert "Truncated." in page
    assert "この概念の画像を明らかによく予測します" in page
    assert page.index("dagger") < page.index("fine.safetensors")


def test_the_map_adds_up_the_parts_of_one_attention(tmp_path: Path, own: bank.Bank) -> None:
    report.write(tmp_path / "report.html", findings(), own, {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'title="+0.7500"' in page
    assert "mid 0 0 text" in page
    assert "rgba(var(--forget)" in page


def test_a_gated_file_is_told_in_both_languages(tmp_path: Path, own: bank.Bank) -> None:
    says = "It changes predictions 300 times as much under made-up words."
    gate = Evidence(stage="decoys", says=says, score=300.0, unit="times the empty text")
    finding = Finding(
        file="a", concept="sake", conclusion="absent", stage="probe", evidence=(gate,)
    )
    report.write(tmp_path / "report.html", [finding], own, {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert says in page
    assert "300 倍" in page


def test_a_clean_audit_says_so(tmp_path: Path, own: bank.Bank) -> None:
    report.write(tmp_path / "r.html", findings()[:1], own, {})
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Nothing that the policy restricts was found." in page
    assert 'class="veil"' not in page
