"""Published presets give the numbers of their authors' code on the same small tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.editing.authors import PlacedEncoder, apart, gram, layer, recorded

from tadasu.editing.problem import Kept, assemble
from tadasu.editing.rece import ReliableEfficientConceptErasure
from tadasu.editing.registry import parse
from tadasu.editing.speed import ScalablePreciseEfficientErasure
from tadasu.editing.targets import debias, erase
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.editing.words import WordEncoder

LAYERS = [layer(rows, 16) for rows in (6, 10, 20, 8)]


@pytest.mark.parametrize(
    ("preset", "names"), [("nudity", ["pistol", "bomb"]), ("object", ["big red bomb"])]
)
def test_rece(preset: str, names: list[str]) -> None:
    solver = parse(f"rece:{preset}")
    assert isinstance(solver, ReliableEfficientConceptErasure)
    problem = assemble(
        WordEncoder(16),
        erase(names),
        reading=solver.reading,
        first=solver.first_reading,
        grams={"context": gram(LAYERS)},
    )["context"]
    expected = recorded("rece")[preset]
    first, edit = replace(solver, rounds=0).solve(problem), solver.solve(problem)
    for rows in (6, 8):
        weight = layer(rows, 16)
        assert apart(first.fold(weight), expected["first"][str(rows)], weight) < 1e-6
        assert apart(edit.fold(weight), expected["edited"][str(rows)], weight) < 1e-6


@pytest.mark.parametrize(
    ("preset", "names", "anchor", "kept"),
    [
        ("object", ["pistol", "big red bomb"], "", ("cat", "blue dog")),
        ("art", ["van gogh"], "art", ("monet",)),
    ],
)
def test_uce_expand_prompts(
    preset: str, names: list[str], anchor: str, kept: tuple[str, ...]
) -> None:
    solver = parse(f"uce:v2_{preset}")
    assert isinstance(solver, UnifiedConceptEditing)
    problem = assemble(
        WordEncoder(16), erase(names, anchor), reading=solver.reading, kept=Kept(texts=kept)
    )["context"]
    edit, expected = solver.solve(problem), recorded("uce")[preset]
    for rows in (6, 8):
        weight = layer(rows, 16)
        assert (
            apart(edit.fold(weight), expected[str(rows)], weight) < 1e-6
        )  # their inverse is in single precision


@pytest.mark.parametrize("rows", [6, 8])
def test_uce_debias_v1(rows: int) -> None:
    """One round; the second moment is one layer's, whose own outputs the authors measure."""
    solver = parse("uce:debias_v1")
    assert isinstance(solver, UnifiedConceptEditing)
    weight = layer(rows, 16)
    problem = assemble(
        WordEncoder(16),
        debias({"doctor": {"male": 0.1 * (0.5 - 0.9), "female person": 0.1 * (0.5 - 0.1)}}),
        reading=solver.reading,
        kept=Kept(texts=("nurse", "big chef")),
        grams={"context": gram([weight])},
    )["context"]
    edited = solver.solve(problem).fold(weight)
    assert apart(edited, recorded("uce")["debias"][str(rows)], weight) < 1e-6


@pytest.mark.parametrize(
    ("case", "changed"),
    [
        ("plain", {"copies": 0}),
        ("augmented", {"retain_scale": 0.05}),
        ("unfiltered", {"retain_scale": 0.05, "filtered": False}),
    ],
)
def test_speed(case: str, changed: dict[str, Any]) -> None:
    """The second moment is one layer's, whose own weights the authors filter and augment by."""
    solver = parse("speed:published")
    assert isinstance(solver, ScalablePreciseEfficientErasure)
    solver = replace(solver, **changed)
    weight = layer(40, 32)
    problem = assemble(
        PlacedEncoder(32),
        erase(["pistol", "bomb"], "toy"),
        reading=solver.reading,
        kept=Kept(texts=("cat", "dog", "house", "tree", "red car", "boat")),
        grams={"context": gram([weight])},
    )["context"]
    edited = solver.solve(problem).fold(weight)
    assert apart(edited[:6], recorded("speed")[case]["40"], weight[:6]) < 1e-6
