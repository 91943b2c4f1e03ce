from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from tadasu.editing.layer import LayerEditing
from tadasu.editing.layer_map import LayerMap
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.targets import Target, erase
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

WIDTH = 48
KEPT = ("cat", "dog", "house", "tree", "lamp", "red house", "my dog")
SOLVER = LayerEditing(
    reading=Reading(hidden=True, tokens="last", templates=("{}", "a {}", "my big {}"))
)
GUN = Target(concept="gun", texts=("pistol", "ピストル"), anchor="toy")


def _problem(*targets: Target, kept: tuple[str, ...] = KEPT) -> Problem:
    wanted = targets or (GUN, *erase(["bomb"]))
    return assemble(WordEncoder(WIDTH), wanted, reading=SOLVER.reading, kept=Kept(texts=kept))[
        "context"
    ]


def _rows(*texts: str) -> Tensor:
    return WordEncoder(WIDTH).encode(texts)["context"].contexts.double()


def test_kept_texts_stay_as_they_are_and_concepts_reach_their_anchors() -> None:
    problem = _problem()
    found = SOLVER.solve(problem)
    kept = _rows(*KEPT, "", *(f"my big {text}" for text in KEPT))
    assert torch.equal(found.apply(kept), kept)
    for concept in (0, 1):
        own = problem.owners == concept
        left = problem.moves[own] - found.delta(problem.sources[own])
        assert float(left.norm() / problem.moves[own].norm()) < 0.35


def test_more_concepts_than_the_width_has_directions() -> None:
    names = [f"thing{i}" for i in range(40)]
    kept = tuple(f"other{i}" for i in range(40))
    problem = _problem(*erase(names), kept=kept)
    found = SOLVER.solve(problem)
    moved = problem.moves - found.delta(problem.sources)
    assert float(moved.norm() / problem.moves.norm()) < 0.5
    rows = _rows(*kept)
    assert float(found.delta(rows).norm() / rows.norm()) < 0.1


def test_the_neurons_compute_the_map() -> None:
    found, rows = SOLVER.solve(_problem()), _rows("a pistol", "a cat", "bomb")
    into, bias, out = found.neurons(sharpness=200.0)
    block = gelu(layer_norm(rows, (WIDTH,)) @ into.T + bias) @ out.T
    torch.testing.assert_close(block, found.delta(rows), atol=0.02, rtol=0.02)


def test_hand_worked_gate() -> None:
    found = LayerMap(
        filters=torch.tensor([[1.0], [0.0]]).double(),
        shut=torch.tensor([0.0]).double(),
        open=torch.tensor([2.0]).double(),
        moves=torch.tensor([[10.0, -10.0]]).double(),
        owners=torch.tensor([0]),
        margins=torch.tensor([1.0]),
        concepts=("x",),
    )
    rows = torch.tensor([[5.0, 1.0], [1.0, 5.0]])  # normalised: about (1, -1) and (-1, 1)
    torch.testing.assert_close(
        found.apply(rows), torch.tensor([[10.0, -4.0], [1.0, 5.0]]), atol=1e-4, rtol=0
    )


def test_a_kept_text_that_reads_like_a_concept_is_reported() -> None:
    assert SOLVER.solve(_problem()).overlapping == ()
    assert SOLVER.solve(_problem(kept=(*KEPT, "pistol pistol"))).overlapping == ("gun",)


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="stay shut"):
        SOLVER.solve(_problem(kept=()))
    with pytest.raises(BadInput, match="hidden"):
        LayerEditing(reading=Reading())
    with pytest.raises(BadInput, match="ramp"):
        replace(SOLVER, ramp=0)
    found = SOLVER.solve(_problem())
    with pytest.raises(BadInput, match="another text encoder"):
        found.apply(torch.zeros(2, WIDTH + 1))
    with pytest.raises(BadInput, match="no ramp"):
        LayerMap(**{**vars(found), "open": found.shut})
    with pytest.raises(BadInput, match="do not fit"):
        LayerMap(**{**vars(found), "moves": found.moves[1:]})
