from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

import tadasu.editing as editing
from tadasu.editing.registry import find, names, parse, presets
from tadasu.errors import BadInput, UnknownName


@pytest.mark.parametrize("name", names())
def test_every_solver_is_a_frozen_dataclass_with_a_reading(name: str) -> None:
    solver = parse(name)
    assert isinstance(solver, find(name))
    assert solver.reading.templates
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.reading = None


def test_presets_and_parameters() -> None:
    assert presets("uce") == ("v1", "v2", "v2_object", "v2_art", "debias_v1")
    assert parse("uce:v1").reading.tokens == "last+tail"
    assert parse("rece:rounds=1,regularisation=0.5").rounds == 1
    assert parse("uce:v2,ridge=2").ridge == 2.0


def test_unknown_names_and_values_are_named() -> None:
    with pytest.raises(UnknownName, match="uce"):
        parse("ucee")
    with pytest.raises(UnknownName, match="v1, v2"):
        parse("uce:v3")
    with pytest.raises(UnknownName, match="alpha"):
        parse("cure:beta=1")
    with pytest.raises(BadInput, match="number"):
        parse("cure:alpha=much")


def test_listing_solvers_does_not_import_torch() -> None:
    code = "import sys, tadasu.editing as e; e.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_found() -> None:
    assert editing.UnifiedConceptEditing is find("uce")
    assert editing.Prior.__name__ == "Prior"
    with pytest.raises(AttributeError, match="no attribute"):
        _ = editing.Nothing
