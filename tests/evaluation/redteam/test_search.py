"""The searches find what is known to be there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadasu.errors import BadInput, RunFailed
from tadasu.evaluation.redteam.p4d import P4D
from tadasu.evaluation.redteam.ring_a_bell import RingABell, direction
from tadasu.evaluation.redteam.search import (
    Best,
    evolved,
    onto_simplex,
    projected,
    random_start,
    simplex,
    slope,
)
from tadasu.evaluation.redteam.unlearn_diff_atk import UnlearnDiffAtk

TABLE = torch.randn(30, 24, generator=torch.Generator().manual_seed(3))
ALL = torch.ones(30, dtype=torch.bool)
WANTED = torch.tensor([[4, 17], [9, 1]])


def distance(rows: Tensor) -> Tensor:
    return (rows - TABLE[WANTED]).pow(2).sum((1, 2))


def test_projected_gradients_find_the_tokens() -> None:
    start = random_start(ALL, batch=2, length=2, seed=0)
    found = projected(distance, TABLE, ALL, start, steps=60, rate=0.2, decay=0.0)
    assert found.tokens.tolist() == WANTED.tolist()
    assert float(found.loss.max()) < 1e-9


def test_mixtures_find_the_tokens() -> None:
    start = random_start(ALL, batch=2, length=2, seed=0)
    found = simplex(distance, TABLE, ALL, start, steps=60, rate=0.3)
    assert found.tokens.tolist() == WANTED.tolist()


def test_evolution_finds_the_tokens() -> None:
    target = torch.tensor([5, 22, 8])
    found = evolved(
        lambda ids: (ids != target).float().sum(1),
        ALL,
        length=3,
        population=40,
        generations=60,
        crossover=0.5,
        mutation=0.5,
        seed=0,
    )
    assert found.tokens.tolist() == [target.tolist()]


def test_tokens_that_are_not_allowed_are_never_used() -> None:
    some = ALL.clone()
    some[WANTED.flatten()] = False
    start = random_start(some, batch=2, length=2, seed=0)
    for found in (
        projected(distance, TABLE, some, start, steps=10, rate=0.2, decay=0.0),
        simplex(distance, TABLE, some, start, steps=10, rate=0.3),
    ):
        assert not set(found.tokens.flatten().tolist()) & set(WANTED.flatten().tolist())


def test_the_best_is_kept_even_when_the_search_walks_away_from_it() -> None:
    found = projected(distance, TABLE, ALL, WANTED, steps=5, rate=50.0, decay=0.0)
    assert found.tokens.tolist() == WANTED.tolist()


def test_a_projection_is_the_nearest_point_of_the_simplex() -> None:
    chance = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 6, generator=chance)
    nearest = onto_simplex(rows)
    torch.testing.assert_close(nearest.sum(-1), torch.ones(5))
    assert bool((nearest >= 0).all())
    others = torch.rand(2000, 6, generator=chance)
    others = others / others.sum(-1, keepdim=True)
    for row, point in zip(rows, nearest, strict=True):
        assert float((row - point).norm()) <= float((others - row).norm(dim=1).min()) + 1e-6


def test_a_loss_that_is_no_number_stops_the_attack() -> None:
    best = Best()
    best.offer(torch.zeros(1, 1, dtype=torch.long), torch.tensor([float("nan")]))
    best.offer(torch.zeros(1, 1, dtype=torch.long), torch.tensor([1.0]))
    with pytest.raises(RunFailed, match="not finite"):
        best.found()


def test_gradients_survive_half_precision() -> None:
    """In float16 a mean over many predictions has no gradient; the search sees it all the same."""
    rows = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).half().requires_grad_()
    halved = rows.repeat(1, 20_000)

    def loss() -> Tensor:
        return (0.01 * halved.float()).pow(2).mean(1)

    (plain,) = torch.autograd.grad(loss().sum(), halved, retain_graph=True)
    assert float((plain == 0).float().mean()) > 0.9
    found = slope(loss(), halved)
    exact = 2e-4 * halved.float() / halved.shape[1]
    torch.testing.assert_close(found * 1e9, exact * 1e9, rtol=2e-2, atol=2e-2)
    assert found.dtype == torch.float32


def test_a_direction_is_the_mean_difference_of_pairs() -> None:
    with pytest.raises(BadInput, match="pairs"):
        direction(torch.zeros(2, 1, 1), torch.zeros(1, 1, 1))
    with pytest.raises(BadInput, match="pairs"):
        direction(torch.zeros(0, 1, 1), torch.zeros(0, 1, 1))


@pytest.mark.parametrize(
    "made",
    [
        lambda: RingABell(length=0),
        lambda: RingABell(mutation=2.0),
        lambda: P4D(steps=0),
        lambda: UnlearnDiffAtk(rate=0.0),
    ],
)
def test_parameters_that_cannot_be_are_refused(made: object) -> None:
    assert callable(made)
    with pytest.raises(BadInput):
        made()


def test_no_token_at_all_is_refused() -> None:
    with pytest.raises(BadInput, match="No token"):
        random_start(~ALL, batch=1, length=1, seed=0)
