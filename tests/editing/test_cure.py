from __future__ import annotations

import pytest
import torch

from tadasu.editing.cure import ConceptUnlearningOrthogonal
from tadasu.editing.problem import Kept, Problem, assemble
from tadasu.editing.targets import erase
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

WIDTH = 16


def _problem(kept: tuple[str, ...]) -> Problem:
    solver = ConceptUnlearningOrthogonal()
    return assemble(
        WordEncoder(WIDTH), erase(["pistol"]), reading=solver.reading, kept=Kept(texts=kept)
    )["context"]


def _projector(rows: torch.Tensor, alpha: float) -> torch.Tensor:
    """Eqs. 3 and 4, written out with the full matrices."""
    _, sizes, basis = torch.linalg.svd(rows)
    result = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    for size, direction in zip(sizes, basis, strict=False):
        r = float(size**2 / (sizes**2).sum())
        result += alpha * r / ((alpha - 1) * r + 1) * torch.outer(direction, direction)
    return result


@pytest.mark.parametrize("kept", [(), ("cat", "dog")])
def test_the_map_is_eq_6(kept: tuple[str, ...]) -> None:
    problem = _problem(kept)
    forget = _projector(problem.sources, 2.0)
    retain = _projector(problem.preserved, 2.0) if kept else torch.zeros_like(forget)
    expected = torch.eye(WIDTH, dtype=torch.float64) - forget + forget @ retain
    torch.testing.assert_close(ConceptUnlearningOrthogonal().solve(problem).dense(), expected)


def test_a_larger_alpha_removes_more() -> None:
    problem = _problem(())
    left = [
        float(ConceptUnlearningOrthogonal(alpha=a).solve(problem).apply(problem.sources).norm())
        for a in (1.0, 5.0, 1e6)
    ]
    assert left[0] > left[1] > left[2]
    assert left[2] < 1e-3


def test_alpha_below_one_is_refused() -> None:
    with pytest.raises(BadInput, match="at least 1"):
        ConceptUnlearningOrthogonal(alpha=0.5)
