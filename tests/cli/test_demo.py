"""``tadasu demo``: the page is whole, needs no network, and hides what is restricted."""

from __future__ import annotations

import contextlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tadasu.cli.app import run

SYSTEMS = ["unguarded", "negative_prompt", "sld", "sega", "presence", "guard"]


class Page(HTMLParser):
    """Collects what a browser would fetch, and which pictures lie under a veil."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.veiled = 0
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [given[key] or "" for key in ("src", "href") if key in given]
        self.veiled += given.get("class") == "veil"
        self.pictures += tag == "img"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    words = ["demo", "--out", str(out), "-n", "2", "--steps", "3"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run([*words, "--json"]) == 0
    (out / "figures.json").write_text(printed.getvalue(), encoding="utf-8")
    return out


@pytest.mark.slow
def test_the_page_is_self_contained(made: Path) -> None:
    text = (made / "index.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.pictures > 0
    assert all(address.startswith("data:image/png") for address in page.fetched)
    assert "http" not in re.sub(r'data:[^"]*|http-equiv', "", text)
    assert "default-src 'none'" in text
    assert all(name in text for name in SYSTEMS)
    assert "プロンプト" in text
    for section in ("An edit, before and after", "Files from strangers", "aligned"):
        assert section in text
    assert re.search(r"goblin.*taught.*withhold", text, re.DOTALL)
    assert "n = 0" not in text


@pytest.mark.slow
def test_every_figure_has_n_and_an_interval(made: Path) -> None:
    figures = json.loads((made / "figures.json").read_text(encoding="utf-8"))
    assert list(figures["systems"]) == SYSTEMS
    for name, row in figures["systems"].items():
        assert row["seconds_per_picture"] > 0
        rates = [value for value in row.values() if isinstance(value, dict)]
        assert len(rates) == 4
        for rate in rates:
            assert 0 <= rate["low"] <= rate["high"] <= 1
            assert rate["n"] <= 2
        if name == "unguarded":
            assert row["benign released"]["value"] == 1.0


def test_an_unknown_policy_writes_nothing(tmp_path: Path) -> None:
    assert run(["demo", "--out", str(tmp_path / "x"), "--policy", "kidz"]) == 2
    assert not (tmp_path / "x").exists()
