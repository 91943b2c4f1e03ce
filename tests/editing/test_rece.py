from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tadasu.editing.problem import Kept, Problem, assemble
from tadasu.editing.rece import ReliableEfficientConceptErasure, adversarial
from tadasu.editing.targets import erase
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

WIDTH = 16
LAYERS = [
    torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    for n in (6, 10, 20)
]


def _problem() -> Problem:
    return assemble(
        WordEncoder(WIDTH),
        erase(["pistol", "bomb"]),
        reading=ReliableEfficientConceptErasure().reading,
        first=ReliableEfficientConceptErasure().first_reading,
        kept=Kept(texts=("cat",)),
        grams={"context": sum((w.T @ w for w in LAYERS), torch.zeros(WIDTH, WIDTH).double())},
    )["context"]


def _step(
    layers: list[torch.Tensor], problem: Problem, sources: torch.Tensor, ridge: float, kept: float
) -> list[torch.Tensor]:
    """One UCE step on the current weights, layer by layer, erase weight 1."""
    still = torch.cat([problem.empty, problem.preserved])
    rows = torch.cat([sources, still])
    goals = torch.cat([problem.targets, still])
    weights = [1.0] * len(sources) + [kept] * len(still)
    edited = []
    for weight in layers:
        left, right = ridge * weight, ridge * torch.eye(WIDTH, dtype=torch.float64)
        for c, t, s in zip(rows, goals, weights, strict=True):
            left = left + s * torch.outer(weight @ t, c)
            right = right + s * torch.outer(c, c)
        edited.append(left @ torch.linalg.inv(right))
    return edited


def test_rounds_equal_the_published_loop_over_layers() -> None:
    problem = _problem()
    assert problem.first is not None
    layers = _step(LAYERS, problem.first, problem.first.sources, 0.5, 0.5)  # max(0.1, 1/2 texts)
    doubled = replace(problem, empty=problem.empty * 2**0.5)  # the empty prompt once for each name
    for _ in range(2):
        right = 0.1 * torch.eye(WIDTH, dtype=torch.float64)
        left = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
        for new, old in zip(layers, LAYERS, strict=True):  # eq. 8, before the step
            right += new.T @ new
            left += new.T @ old
        found = problem.sources @ (torch.linalg.inv(right) @ left).T
        layers = _step(layers, doubled, found, 0.1, 0.1)
    edit = ReliableEfficientConceptErasure(rounds=2).solve(problem)
    for old, expected in zip(LAYERS, layers, strict=True):
        torch.testing.assert_close(edit.fold(old), expected, rtol=1e-7, atol=1e-7)


def test_adversarial_context_is_where_the_gradient_of_eq_8_vanishes() -> None:
    problem = _problem()
    assert problem.gram is not None
    edit = ReliableEfficientConceptErasure(rounds=0).solve(problem)
    found = adversarial(edit, problem.gram, problem.sources[:1], 0.1).requires_grad_()
    old = [w @ problem.sources[0] for w in LAYERS]
    new = [edit.fold(w) @ found[0] for w in LAYERS]
    loss = sum(((a - b) ** 2).sum() for a, b in zip(new, old, strict=True))
    (slope,) = torch.autograd.grad(loss + 0.1 * (found**2).sum(), found)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_without_the_projections_it_says_what_is_missing() -> None:
    with pytest.raises(BadInput, match="gram"):
        ReliableEfficientConceptErasure().solve(replace(_problem(), gram=None))
    with pytest.raises(BadInput, match="first"):
        ReliableEfficientConceptErasure().solve(replace(_problem(), first=None))
