from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tadasu.editing.prior import Prior
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.targets import debias, erase
from tadasu.editing.uce import UnifiedConceptEditing, condensed, fewer, leading, moved_share
from tadasu.editing.words import LENGTH, WordEncoder
from tadasu.errors import BadInput

WIDTH = 16
GONE = ["pistol", "big red bomb", "ピストル"]
KEPT = ("cat", "blue dog")


def _layers() -> list[Tensor]:
    source = torch.Generator().manual_seed(1)
    return [torch.randn(n, WIDTH, generator=source, dtype=torch.float64) for n in (6, 10, 6)]


def _rows(text: str) -> Tensor:
    return WordEncoder(WIDTH).encode([text])["context"].contexts[0].double()


def _last(text: str) -> int:
    """``attention_mask.sum() - 2``."""
    return len(text.split()) + 2 - 2


def _published_v1(weight: Tensor, gone: list[str], guide: str, kept: list[str]) -> Tensor:
    """The 2023 loop for one layer, row by row."""
    kept = ["", *kept]
    scale = max(0.1, 1 / len(kept))
    left, right = 0.5 * weight.clone(), 0.5 * torch.eye(WIDTH, dtype=torch.float64)
    for text in gone:
        old, new = _rows(text), _rows(guide)
        a, b = _last(text), _last(guide)
        farthest = max(a, b)
        old = old[a : LENGTH - max(0, farthest - a)]
        new = new[b : LENGTH - max(0, farthest - b)]
        for c, v in zip(old, new @ weight.T, strict=True):
            left += torch.outer(v, c)
            right += torch.outer(c, c)
    for text in kept:
        for c in _rows(text):
            left += scale * torch.outer(weight @ c, c)
            right += scale * torch.outer(c, c)
    edited: Tensor = left @ torch.linalg.inv(right)
    return edited


def _published_v2(weight: Tensor, gone: list[str], guide: str, kept: list[str]) -> Tensor:
    """The 2025 loop for one layer."""
    left, right = 0.5 * weight.clone(), 0.5 * torch.eye(WIDTH, dtype=torch.float64)
    for text, to in [*((t, guide) for t in gone), *((t, t) for t in kept)]:
        c, v = _rows(text)[_last(text)], weight @ _rows(to)[_last(to)]
        left += torch.outer(v, c)
        right += torch.outer(c, c)
    edited: Tensor = left @ torch.linalg.inv(right)
    return edited


def _problem(
    solver: UnifiedConceptEditing,
    anchor: str | None = "",
    kept: tuple[str, ...] = KEPT,
    prior: Prior | None = None,
) -> Problem:
    return assemble(
        WordEncoder(WIDTH),
        erase(GONE, anchor),
        reading=solver.reading,
        kept=Kept(texts=kept, prior=prior),
    )["context"]


@pytest.mark.parametrize("kept", [(), KEPT, ("a", "b", "c", "d e", "f", "g h", "i", "j", "k")])
@pytest.mark.parametrize("guide", ["", "art piece"])
def test_v1_is_the_2023_code_in_every_layer(guide: str, kept: tuple[str, ...]) -> None:
    solver = UnifiedConceptEditing.v1()
    edit = solver.solve(_problem(solver, guide, kept))
    for weight in _layers():
        torch.testing.assert_close(
            edit.fold(weight), _published_v1(weight, GONE, guide, list(kept)), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("kept", [(), KEPT, tuple("abcdefghijklmnopqrstuvw")])
@pytest.mark.parametrize("guide", ["", "art"])
def test_v2_is_the_2025_code_in_every_layer(guide: str, kept: tuple[str, ...]) -> None:
    solver = UnifiedConceptEditing.v2()
    edit = solver.solve(_problem(solver, guide, kept))
    for weight in _layers():
        torch.testing.assert_close(
            edit.fold(weight), _published_v2(weight, GONE, guide, list(kept)), rtol=1e-9, atol=1e-9
        )


def test_the_two_published_algorithms_differ() -> None:
    first, second = UnifiedConceptEditing.v1(), UnifiedConceptEditing.v2()
    one, two = first.solve(_problem(first)), second.solve(_problem(second))
    assert float((one.dense() - two.dense()).norm()) > 0.1


def test_default_reaches_the_asked_residual_and_holds_the_empty_prompt() -> None:
    captions = [f"{a} {b} {c}" for a in "qrstu" for b in "vwx" for c in "yz"]
    prior = Prior.measure(WordEncoder(WIDTH), captions)
    solver = UnifiedConceptEditing(tolerance=0.2, reading=Reading(tokens="last"))
    problem = _problem(solver, prior=prior)
    edit = solver.solve(problem)
    moved = problem.moves - edit.delta(problem.sources)
    left = moved.norm(dim=1) / problem.moves.norm(dim=1)
    assert float(left.max()) < 0.25
    assert float(left.min()) > 0.1, "an easy concept takes no more room than it needs"
    torch.testing.assert_close(edit.apply(problem.empty[:1]), problem.empty[:1])


def test_the_tolerance_is_raised_while_what_is_preserved_moves_too_far() -> None:
    solver = UnifiedConceptEditing(reading=Reading(tokens="last"), ridge=1.0)
    kept = tuple("abcdefghijklmnopqrst")
    problem = _problem(solver, kept=kept)
    hard = replace(solver, collateral=1e9).solve(problem)
    soft = replace(solver, collateral=0.1).solve(problem)
    assert moved_share(hard, problem.preserved) > 0.1
    assert moved_share(soft, problem.preserved) < moved_share(hard, problem.preserved)
    left = [float((problem.moves - edit.delta(problem.sources)).norm()) for edit in (hard, soft)]
    assert left[0] < left[1], "what it costs is a larger residual, which the self-check reports"
    assert moved_share(hard, problem.preserved[:1]) == 0


def test_prior_makes_ordinary_prompts_move_less() -> None:
    captions = [f"{a} {b}" for a in ("sun", "tree") for b in ("sky", "road", "rain")]
    prior = Prior.measure(WordEncoder(WIDTH), captions)
    solver = UnifiedConceptEditing(reading=Reading(tokens="last"))
    ordinary = WordEncoder(WIDTH).encode(captions)["context"].contexts
    plain = solver.solve(_problem(solver, kept=()))
    careful = solver.solve(_problem(solver, kept=(), prior=prior))
    assert float(careful.delta(ordinary).norm()) < 0.5 * float(plain.delta(ordinary).norm())


def test_condensing_rows_changes_no_solution() -> None:
    solver = replace(UnifiedConceptEditing.v1(), empty_prompt="free")
    problem = _problem(solver)
    sources, moves, owners = condensed(problem, energy=0.0)
    assert sources.shape[0] <= problem.sources.shape[0]
    small = replace(
        problem,
        sources=sources,
        targets=sources + moves,
        owners=owners,
        weights=torch.ones(len(owners), dtype=torch.float64),
    )
    torch.testing.assert_close(solver.solve(small).dense(), solver.solve(problem).dense())


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_fewer_rows_have_the_same_gram_matrix(shape: tuple[int, int]) -> None:
    source = torch.Generator().manual_seed(4)
    rows = torch.randn(*shape, generator=source, dtype=torch.float64)
    few = fewer(rows, energy=1e-9)
    assert few.shape[0] == 6
    torch.testing.assert_close(few.T @ few, rows.T @ rows)


def test_leading_rows_span_the_empty_prompt_without_its_small_parts() -> None:
    rows = torch.eye(4, dtype=torch.float64)[[0, 1, 1, 1, 2]]
    rows[4] *= 1e-3
    assert leading(rows).shape == (2, 4)


def test_a_ridge_of_zero_is_a_singular_system() -> None:
    solver = replace(UnifiedConceptEditing.v2(), ridge=0.0)
    with pytest.raises(BadInput, match="singular"):
        solver.solve(_problem(solver))


def test_parameters_without_meaning_are_refused() -> None:
    for tolerance in (0.0, 1.0):
        with pytest.raises(BadInput, match="tolerance"):
            UnifiedConceptEditing(tolerance=tolerance)
    with pytest.raises(BadInput, match="erase_scale"):
        UnifiedConceptEditing(erase_scale=0.0)
    with pytest.raises(BadInput, match="empty_prompt"):
        UnifiedConceptEditing(empty_prompt="no")


def test_a_concept_that_is_moved_by_nothing_stays_while_its_neighbour_moves() -> None:
    encoder = WordEncoder(48)
    solver = UnifiedConceptEditing(reading=Reading())
    forms = {"pilot": {"woman {}": 1.0}, "cook": {"woman {}": 0.0}}
    problem = assemble(encoder, debias(forms), reading=solver.reading)["context"]
    edit = solver.solve(problem)
    moved = [edit.delta(problem.sources[problem.owners == k]).norm() for k in (0, 1)]
    assert float(moved[0] / problem.moves.norm()) > 0.8
    assert float(moved[1] / moved[0]) < 0.02
