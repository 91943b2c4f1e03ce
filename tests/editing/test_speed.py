from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tadasu.editing.context_map import ContextMap
from tadasu.editing.metric import orthonormal, ridge_and_rows, ridge_solve
from tadasu.editing.problem import Kept, Problem, assemble
from tadasu.editing.speed import ScalablePreciseEfficientErasure, centroids, influential
from tadasu.editing.targets import erase
from tadasu.editing.uce import leading
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

WIDTH = 32


def _problem(kept: tuple[str, ...] = ("cat", "dog", "house", "tree")) -> Problem:
    reading = ScalablePreciseEfficientErasure().reading
    return assemble(
        WordEncoder(WIDTH), erase(["pistol"], "toy"), reading=reading, kept=Kept(texts=kept)
    )["context"]


def _erasure(problem: Problem) -> ContextMap:
    free = ridge_and_rows(1.0, problem.preserved[:0])
    return ridge_solve(free, problem.sources, problem.moves, problem.weights)


def test_solution_is_the_published_product_of_p_q_and_m() -> None:
    problem = _problem()
    edit = ScalablePreciseEfficientErasure(copies=0).solve(problem)
    eye = torch.eye(WIDTH, dtype=torch.float64)
    retained = problem.preserved
    values, vectors = torch.linalg.eigh(retained.T @ retained / len(retained))
    P = vectors[:, values < 0.1] @ vectors[:, values < 0.1].T
    C, hard = problem.sources.T, orthonormal(P @ leading(problem.empty).T)
    M = torch.linalg.inv(C @ C.T @ P + eye)
    Q = eye - M @ hard @ torch.linalg.pinv(hard.T @ P @ M @ hard) @ hard.T @ P
    expected = (problem.targets.T - C) @ C.T @ P @ Q @ M
    torch.testing.assert_close(edit.dense() - eye, expected, rtol=1e-6, atol=1e-8)


def test_retained_rows_and_the_start_token_do_not_move() -> None:
    problem = _problem()
    edit = ScalablePreciseEfficientErasure(cutoff=1e-4).solve(problem)
    still = torch.cat([influential(_erasure(problem), problem.preserved), problem.empty[:1]])
    torch.testing.assert_close(edit.delta(still), torch.zeros_like(still), atol=1e-6, rtol=0)
    assert float(edit.delta(problem.sources).norm()) > 0.5


def test_only_influential_texts_are_retained() -> None:
    problem = _problem()
    some = influential(_erasure(problem), problem.preserved)
    assert 0 < some.shape[0] < problem.preserved.shape[0]


def test_influence_is_what_the_projections_feel() -> None:
    """A direction that no projection reads has no influence, however far it is moved."""
    eye = torch.eye(4, dtype=torch.float64)
    erasure = ContextMap(A=torch.diag(torch.tensor([9.0, 1, 0, 0]).double()), B=eye)
    assert influential(erasure, eye[:2]).equal(eye[:1])
    assert influential(erasure, eye[:2], torch.diag(torch.tensor([0.0, 1, 1, 1]).double())).equal(
        eye[1:2]
    )


def test_noise_lies_in_the_directions_the_projections_see_least() -> None:
    gram = torch.diag(torch.arange(1, WIDTH + 1, dtype=torch.float64))
    kept = _problem().preserved
    rows = ScalablePreciseEfficientErasure(copies=3).noisy(kept, gram)
    noise = rows.reshape(3, 4, WIDTH) - kept
    assert float(noise[..., 0].abs().min()) > 0
    assert float(noise[..., 1:].abs().max()) < 1e-12


def test_centroids_are_means_of_groups_and_the_same_every_time() -> None:
    rows = torch.tensor([[9.0, 9], [0, 0], [0, 1], [5, 5], [5, 6], [-7, 0]]).double()
    found = centroids(rows)
    assert found.tolist() == [[9, 9], [0, 0.5], [5, 5.5], [-7, 0]]


def test_nothing_retained_and_nothing_free_are_named() -> None:
    with pytest.raises(BadInput, match="preserve list"):
        ScalablePreciseEfficientErasure().solve(_problem(()))
    crowded = replace(_problem(), preserved=torch.eye(WIDTH, dtype=torch.float64))
    with pytest.raises(BadInput, match="no direction"):
        ScalablePreciseEfficientErasure(cutoff=1e-4).solve(
            replace(crowded, sources=torch.ones(1, WIDTH).double(), targets=crowded.targets)
        )
