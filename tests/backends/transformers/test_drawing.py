"""Draws: of the right distribution, and the same whatever other threads draw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from tadasu.alignment.engine import Sampling
from tadasu.backends.transformers.drawing import Drawing

CPU = torch.device("cpu")


def drawn(seed: int | None, scores: torch.Tensor, *, top_k: int = 0) -> list[int]:
    sampling = Sampling(temperature=2.0, top_k=top_k, seed=seed)
    return Drawing(sampling, CPU)(torch.empty(0), scores).argmax(-1).tolist()


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([2.0, 0.0, -2.0])
    found = torch.tensor(drawn(0, logits.repeat(40_000, 1)))
    shares = torch.bincount(found, minlength=3) / len(found)
    assert torch.allclose(shares, (logits / 2.0).softmax(-1), atol=0.01)
    assert set(drawn(0, logits.repeat(1000, 1), top_k=2)) == {0, 1}


def test_threads_do_not_change_each_others_draws() -> None:
    scores = torch.randn(16, 500, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    alone = [drawn(seed, scores) for seed in range(32)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: drawn(seed, scores), range(32)))
    assert together == alone
    assert torch.equal(before, torch.get_rng_state())
    assert drawn(None, scores) != drawn(None, scores)
