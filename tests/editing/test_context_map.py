from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.errors import BadInput


def _random(width: int = 12, rank: int = 3, seed: int = 0) -> ContextMap:
    source = torch.Generator().manual_seed(seed)
    A = torch.randn(width, rank, generator=source, dtype=torch.float64)
    B = torch.randn(width, rank, generator=source, dtype=torch.float64)
    return ContextMap(A=A / width, B=B)


def _rows(width: int = 12) -> Tensor:
    return torch.randn(2, 5, width, generator=torch.Generator().manual_seed(9)).double()


def test_folding_equals_mapping_the_context() -> None:
    edit, rows = _random(), _rows()
    weight = torch.randn(7, 12, dtype=torch.float64)
    expected = torch.stack([torch.stack([weight @ (edit.dense() @ r) for r in b]) for b in rows])
    torch.testing.assert_close(rows @ edit.fold(weight).T, expected)
    torch.testing.assert_close(edit.apply(rows) @ weight.T, expected)


def test_composition_applies_the_first_map_first() -> None:
    first, second, rows = _random(seed=1), _random(seed=2), _rows()
    both = first.then(second)
    torch.testing.assert_close(both.apply(rows), second.apply(first.apply(rows)))
    assert not torch.allclose(both.apply(rows), first.apply(second.apply(rows)))


def test_undo_takes_back_what_apply_did() -> None:
    edit, rows = _random(), _rows()
    torch.testing.assert_close(edit.undo().apply(edit.apply(rows)), rows)


def test_a_projection_cannot_be_undone_and_says_so() -> None:
    unit = torch.eye(4, dtype=torch.float64)[:, :1]
    with pytest.raises(BadInput, match="Unfold"):
        ContextMap(A=-unit, B=unit).undo()


def test_strength_is_linear_and_zero_is_the_identity() -> None:
    edit, rows = _random(), _rows()
    assert torch.equal(edit.strength(0.0).apply(rows), rows)
    torch.testing.assert_close(edit.strength(0.25).delta(rows), edit.delta(rows) / 4)


def test_compression_keeps_the_map_and_drops_repeated_directions() -> None:
    edit = _random()
    twice = ContextMap(A=torch.cat([edit.A, edit.A], 1), B=torch.cat([edit.B, -edit.B / 2], 1))
    small = twice.compressed()
    assert small.rank == edit.rank
    torch.testing.assert_close(small.dense(), twice.dense())


def test_identity_has_rank_zero_everywhere() -> None:
    edit, rows = ContextMap.identity(12), _rows()
    assert edit.rank == edit.compressed().rank == edit.undo().rank == 0
    assert torch.equal(edit.apply(rows), rows)


def test_single_precision_contexts_are_moved_in_double() -> None:
    edit, rows = _random(), _rows().float()
    assert edit.apply(rows).dtype == torch.float32
    torch.testing.assert_close(edit.apply(rows), edit.apply(rows.double()).float(), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(BadInput, match="finite"):
        ContextMap(A=torch.full((3, 1), bad), B=torch.ones(3, 1))


def test_factors_and_contexts_must_fit() -> None:
    with pytest.raises(BadInput, match="one shape"):
        ContextMap(A=torch.ones(3, 1), B=torch.ones(4, 1))
    with pytest.raises(BadInput, match="another text encoder"):
        _random().apply(torch.ones(2, 13))
    with pytest.raises(BadInput, match="width"):
        _random().fold(torch.ones(2, 13))
