"""Every method has source, docs page and test under the same name, and ``methods`` lists it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from tadasu.cli.app import run
from tadasu.cli.methods import ROOMS, first_line, listed

ROOT = Path(__file__).parent.parent
METHODS = [(room, name) for room, names in listed().items() for name in names]


@pytest.mark.parametrize(("room", "name"), METHODS)
def test_has_source_docs_and_test(room: str, name: str) -> None:
    wanted = (
        ROOT / "src" / "tadasu" / room / f"{name}.py",
        ROOT / "docs" / room / f"{name}.md",
        ROOT / "tests" / room / f"test_{name}.py",
    )
    assert [str(path.relative_to(ROOT)) for path in wanted if not path.is_file()] == []


@pytest.mark.parametrize(("room", "name"), METHODS)
def test_says_what_it_is(room: str, name: str) -> None:
    line = first_line(room, name)
    assert len(line) > 20
    assert line.endswith((".", ":"))


@pytest.mark.parametrize("room", [room for room in ROOMS if listed()[room]])
def test_every_file_is_a_method_or_known_not_to_be(room: str) -> None:
    registry = importlib.import_module(f"tadasu.{room}.registry")
    exceptions = next(
        value
        for name, value in vars(registry).items()
        if name.startswith("_NOT_") and isinstance(value, frozenset)
    )
    folder = ROOT / "src" / "tadasu" / room
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files - exceptions == set(listed()[room])
    assert exceptions <= files | {path.name for path in folder.iterdir() if path.is_dir()}


def test_the_command_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["guidance", "editing", "auditing", "alignment", "detectors"]
    assert [(room, name) for room in document for name in document[room]] == METHODS
    assert {"sld", "sega", "negative_prompt"} <= set(document["guidance"])
