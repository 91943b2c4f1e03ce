from __future__ import annotations

import pytest
import torch

from tadasu.editing.conditional import ConditionalEditing
from tadasu.editing.gated_map import GatedMap
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.targets import Target, erase
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

WIDTH = 48
KEPT = ("cat", "dog", "house", "tree", "lamp")
GUN = Target(concept="gun", texts=("pistol", "ピストル"), anchor="toy")
SOLVER = ConditionalEditing(
    base=UnifiedConceptEditing(
        reading=Reading(tokens="last", templates=("{}", "a {}", "my {} here"))
    )
)


def _problem(kept: tuple[str, ...] = KEPT) -> Problem:
    return assemble(
        WordEncoder(WIDTH),
        [GUN, *erase(["bomb"], "toy")],
        reading=SOLVER.reading,
        kept=Kept(texts=kept, captions=("a red pistol",)),
    )["context"]


def _contexts(*texts: str) -> torch.Tensor:
    return WordEncoder(WIDTH).encode(texts)["context"].contexts


def _gated() -> GatedMap:
    return SOLVER.solve(_problem())


def test_prompts_without_a_concept_pass_through_bit_for_bit() -> None:
    quiet = _contexts(*KEPT, "", "a cat", "my lamp here")
    assert torch.equal(_gated().apply(quiet), quiet)


def test_a_concept_is_moved_in_every_language_and_only_itself() -> None:
    gated = _gated()
    gates = gated.gates(_contexts("a pistol", "my ピストル here", "a bomb", "a cat"))
    torch.testing.assert_close(
        gates.round(), torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 0]]).double()
    )
    before = _contexts("a pistol")
    moved = (gated.apply(before) - before)[0].norm(dim=1)
    assert int(moved.argmax()) == 2, "the word itself moves most"


def test_fully_open_gate_reaches_the_asked_residual_for_one_concept() -> None:
    problem, gated = _problem(), _gated()
    edit = gated.map_for(torch.tensor([0.0, 1.0], dtype=torch.float64))
    own = problem.owners == 1
    left = problem.moves[own] - edit.delta(problem.sources[own])
    assert float(left.norm() / problem.moves[own].norm()) < 0.11


def test_half_open_is_between_shut_and_open() -> None:
    gated, rows = _gated(), _contexts("a bomb")
    sizes = [
        float(gated.map_for(torch.tensor([0.0, g], dtype=torch.float64)).delta(rows).norm())
        for g in (0.0, 0.01, 0.3, 1.0)
    ]
    assert sizes[0] == 0
    assert sizes == sorted(sizes)
    assert sizes[1] < sizes[3]


def test_captions_that_contain_a_name_do_not_calibrate_the_gate() -> None:
    assert _problem().others.shape[0] == 1 + len(KEPT) * 3


def test_a_kept_text_that_resembles_a_concept_is_reported_and_the_gate_fails_towards_erasing() -> (
    None
):
    problem = _problem((*KEPT, "pistol pistol"))
    gated = SOLVER.solve(problem)
    if gated.overlapping:
        assert gated.overlapping == ("gun",)
    assert float(gated.gates(_contexts("a pistol"))[0, 0]) > 0.9


def test_without_texts_to_stay_shut_for_it_refuses() -> None:
    with pytest.raises(BadInput, match="stays shut"):
        SOLVER.solve(_problem(()))


def test_rows_of_a_prompt_must_come_together() -> None:
    with pytest.raises(BadInput, match="whole contexts"):
        _gated().apply(torch.zeros(3, WIDTH))
