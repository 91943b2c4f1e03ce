from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tadasu.editing import artefact
from tadasu.editing.check import check, condition, require
from tadasu.editing.conditional import ConditionalEditing
from tadasu.editing.context_map import ContextMap
from tadasu.editing.edit import Edit, check_stack, interference
from tadasu.editing.gated_map import GatedMap
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.targets import erase
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadFile, BadInput

WIDTH = 24
ENCODER = WordEncoder(WIDTH, pooled=True)
SOLVER = UnifiedConceptEditing(reading=Reading(tokens="last"))


def _problems(*concepts: str) -> dict[str, Problem]:
    kept = Kept(texts=("cat", "dog"))
    return assemble(ENCODER, erase(concepts, "toy"), reading=SOLVER.reading, kept=kept)


def _edit(*concepts: str, name: str = "no-weapons", gated: bool = False) -> Edit:
    solver: Any = ConditionalEditing(base=SOLVER) if gated else SOLVER
    return Edit(
        name=name,
        maps={site: solver.solve(problem) for site, problem in _problems(*concepts).items()},
        concepts=concepts,
        recipe={"solver": "uce", "targets": list(concepts), "note": "日本語"},
        fingerprint=ENCODER.fingerprint,
        evidence={"context": {"residual": 0.1}},
    )


@pytest.mark.parametrize("gated", [False, True])
def test_file_round_trip_is_exact(tmp_path: Path, gated: bool) -> None:
    edit = _edit("pistol", "bomb", gated=gated)
    artefact.save(edit, tmp_path / "edit.safetensors")
    again = artefact.load(tmp_path / "edit.safetensors")
    assert (again.name, again.concepts, again.recipe) == (edit.name, edit.concepts, edit.recipe)
    assert again.conditional is gated
    rows = ENCODER.encode(["a pistol", "a cat"])["context"].contexts
    assert torch.equal(again.maps["context"].apply(rows), edit.maps["context"].apply(rows))
    assert json.loads((tmp_path / "edit.evidence.json").read_text()) == edit.evidence


def test_an_edit_is_kilobytes(tmp_path: Path) -> None:
    artefact.save(_edit("pistol", "bomb"), tmp_path / "e.safetensors")
    assert (tmp_path / "e.safetensors").stat().st_size < 8192


def _tampered(source: Path, target: Path, change: str) -> None:
    tensors = load_file(source)
    with safe_open(str(source), framework="pt") as opened:
        about = opened.metadata()
    if change == "tensor":
        tensors["context.A"][0, 0] += 1e-6
    elif change == "recipe":
        about["edit"] = about["edit"].replace("pistol", "banana")
    elif change == "extra":
        tensors["more.A"] = torch.zeros(2, 1)
    save_file(tensors, target, metadata=about)


@pytest.mark.parametrize("change", ["tensor", "recipe", "extra"])
def test_files_changed_afterwards_are_refused(tmp_path: Path, change: str) -> None:
    artefact.save(_edit("pistol"), tmp_path / "e.safetensors")
    _tampered(tmp_path / "e.safetensors", tmp_path / "f.safetensors", change)
    with pytest.raises(BadFile, match="changed after"):
        artefact.load(tmp_path / "f.safetensors")


def test_an_unchanged_copy_is_read(tmp_path: Path) -> None:
    artefact.save(_edit("pistol"), tmp_path / "e.safetensors")
    _tampered(tmp_path / "e.safetensors", tmp_path / "f.safetensors", "nothing")
    assert artefact.load(tmp_path / "f.safetensors").concepts == ("pistol",)


def test_missing_truncated_foreign_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    with pytest.raises(BadFile, match="Cannot read"):
        artefact.load(path)
    artefact.save(_edit("pistol"), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadFile, match="Cannot read"):
        artefact.load(path)
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadFile, match="larger than any edit"):
        artefact.load(path)
    save_file({"context.A": torch.zeros(1, 1)}, path)
    with pytest.raises(BadFile, match="no edit file"):
        artefact.load(path)
    with pytest.raises(BadInput, match="safetensors"):
        artefact.save(_edit("pistol"), tmp_path / "e.pt")


def test_another_encoder_is_refused_unless_forced() -> None:
    edit = _edit("pistol")
    edit.check_encoder(ENCODER.fingerprint)
    with pytest.raises(BadInput, match="another encoder"):
        edit.check_encoder("sha256:other")
    edit.check_encoder("sha256:other", force=True)


def test_a_conditional_edit_cannot_be_folded() -> None:
    with pytest.raises(BadInput, match="cannot be folded"):
        _edit("pistol", gated=True).plain_maps()


def test_interference_is_the_commutator() -> None:
    one, two = _edit("pistol", name="one"), _edit("bomb", name="two")
    values = []
    for site in ("context", "pooled"):
        a, b = (edit.plain_maps()[site].dense() for edit in (one, two))
        eye = torch.eye(a.shape[0], dtype=torch.float64)
        values.append(float((a @ b - b @ a).norm() / ((a - eye).norm() * (b - eye).norm())))
    found = interference([one, two])
    assert found == {("one", "two"): pytest.approx(max(values))}
    limit = max(values)
    check_stack([one, two], limit=limit * 1.01)
    with pytest.raises(BadInput, match="'one' and 'two' interfere"):
        check_stack([one, two], limit=limit * 0.99)


def test_check_measures_residual_drift_and_ranks_collateral() -> None:
    problem = _problems("pistol", "bomb")["context"]
    edit = SOLVER.solve(problem)
    held_out = {
        text: ENCODER.encode([text])["context"].contexts[0] for text in ("cat", "pistol", "house")
    }
    result = check(edit, problem, held_out)
    assert result.worst_residual == pytest.approx(0.1, abs=0.02)
    assert result.collateral[0][0] == "pistol"
    assert result.worst_drift == result.collateral[0][1]
    assert result.drift is not None
    assert result.drift < result.worst_drift
    still = check(ContextMap.identity(WIDTH), problem, held_out)
    assert set(still.residual.values()) == {1.0}
    assert still.worst_drift == 0.0
    json.dumps(result.as_json(), allow_nan=False)


def test_condition_of_a_known_map() -> None:
    unit = torch.eye(5, dtype=torch.float64)[:, :1]
    assert condition(ContextMap(A=-0.75 * unit, B=unit)) == pytest.approx(1.0, abs=3.1)
    both = torch.eye(5, dtype=torch.float64)[:, :2]
    scaled = both * torch.tensor([-0.75, 1.0])
    assert condition(ContextMap(A=scaled, B=both)) == pytest.approx(8.0)
    assert condition(ContextMap(A=-unit, B=unit)) == float("inf")


def test_limits_name_what_fell_short() -> None:
    problem = _problems("pistol")["context"]
    nothing = check(ContextMap.identity(WIDTH), problem, {})
    assert require({"context": nothing}, residual=0.2, drift=0.1) == [
        "context: residual above 0.2 for pistol"
    ]
    done = check(SOLVER.solve(problem), problem, {})
    assert require({"context": done}, residual=0.2, drift=0.1) == []
    with pytest.raises(BadInput, match="above 0"):
        require({}, residual=0.0, drift=1.0)


def test_a_gated_map_reports_residual_with_its_own_gate_open() -> None:
    problem = _problems("pistol", "bomb")["context"]
    gated = ConditionalEditing(base=SOLVER).solve(problem)
    assert isinstance(gated, GatedMap)
    result = check(gated, problem, {})
    assert result.condition is None
    assert result.worst_residual < 0.15
