from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from tadasu.editing.check import residuals
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
    assert max(residuals(found, problem).values()) < 0.25


def test_a_gate_that_is_a_little_open_suffices_and_force_0_adds_what_is_missing() -> None:
    problem = _problem()
    found, gentle = SOLVER.solve(problem), replace(SOLVER, force=0).solve(problem)
    own = problem.sources[problem.owners == 0]
    assert float((gentle.moves[0] + own[0] - problem.targets[0]).norm()) < 0.5 * own[0].norm()
    shut, fully = torch.full_like(found.shut, -10.0), torch.full_like(found.open, 30.0)
    quarter = replace(found, shut=shut, open=fully)  # every gate is about a quarter open
    assert 0.2 < float(quarter.gated(own[:1]).min()) < 0.35
    assert float(_seen(quarter.apply(own[:1])) @ _seen(problem.targets[:1]).T) > 0.8
    assert (
        float(
            _seen(replace(gentle, shut=shut, open=fully).apply(own[:1]))
            @ _seen(problem.targets[:1]).T
        )
        < 0.7
    )


def _seen(rows: Tensor) -> Tensor:
    seen: Tensor = layer_norm(rows, (WIDTH,)) * float(WIDTH) ** -0.5
    return seen


def test_words_before_the_last_one_are_moved_where_they_stand_in_no_other_text() -> None:
    solver = LayerEditing(reading=Reading(hidden=True, inner=True, tokens="last"))
    target = Target(concept="x", texts=("symbols face mouth",), anchor="toy")
    kept = ("cat", "symbols of peace", "house", "lamp")
    problem = assemble(WordEncoder(WIDTH), [target], reading=solver.reading, kept=Kept(texts=kept))
    found = solver.solve(problem["context"])
    rows = WordEncoder(WIDTH).encode(["symbols face mouth", *kept, "symbols of peace"])
    first = rows["context"].contexts[0].double()
    opened = found.gated(first).amax(1)
    assert opened[2:4].tolist() == [1.0, 1.0], "face and mouth"
    assert opened[1] == 0, "'symbols' reads the same in a text that must stay"
    others = rows["context"].contexts[1:].double()
    assert torch.equal(found.apply(others), others)
    assert solver.solve(problem["context"]).overlapping == ()


def test_the_neurons_of_a_gate_stand_together() -> None:
    found, rows = SOLVER.solve(_problem()), _rows("a pistol", "bomb")
    into, bias, out = found.neurons(sharpness=200.0)
    for gate in range(found.gates):
        two = slice(2 * gate, 2 * gate + 2)
        one = gelu(layer_norm(rows, (WIDTH,)) @ into[two].T + bias[two]) @ out[:, two].T
        alone = found.gated(rows)[..., gate, None] * found.moves[gate]
        size = float(found.moves.abs().max())
        torch.testing.assert_close(one / size, alone / size, atol=0.005, rtol=0.02)


def test_a_shift_by_a_fraction_is_not_forced() -> None:
    shift = Target(concept="gun", texts=("pistol",), anchor=None, attributes={"red {}": 0.3})
    problem = _problem(shift)
    assert not problem.anchored
    assert torch.equal(SOLVER.solve(problem).moves, replace(SOLVER, force=0).solve(problem).moves)


def test_more_concepts_than_the_width_has_directions() -> None:
    names = [f"thing{i}" for i in range(40)]
    kept = tuple(f"other{i}" for i in range(40))
    problem = _problem(*erase(names), kept=kept)
    found = SOLVER.solve(problem)
    assert sum(residuals(found, problem).values()) / 40 < 0.2
    rows = _rows(*kept)
    assert float((_seen(found.apply(rows)) - _seen(rows)).norm() / _seen(rows).norm()) < 0.1


def test_the_neurons_compute_the_map() -> None:
    found, rows = SOLVER.solve(_problem()), _rows("a pistol", "a cat", "bomb")
    into, bias, out = found.neurons(sharpness=200.0)
    block = gelu(layer_norm(rows, (WIDTH,)) @ into.T + bias) @ out.T
    size = float(found.moves.abs().max())
    torch.testing.assert_close(block / size, found.delta(rows) / size, atol=0.005, rtol=0.02)


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
    with pytest.raises(BadInput, match="force"):
        replace(SOLVER, force=-1)
    found = SOLVER.solve(_problem())
    with pytest.raises(BadInput, match="another text encoder"):
        found.apply(torch.zeros(2, WIDTH + 1))
    with pytest.raises(BadInput, match="no ramp"):
        LayerMap(**{**vars(found), "open": found.shut})
    with pytest.raises(BadInput, match="do not fit"):
        LayerMap(**{**vars(found), "moves": found.moves[1:]})
