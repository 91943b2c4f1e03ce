"""The text direction against a loop by hand, and what it is blind to."""

from __future__ import annotations

import pytest
import torch

from tadasu.auditing.adapter import Dense, Factored
from tadasu.auditing.text_direction import TextDirection, named
from tadasu.errors import BadInput

MODULE = "unet.down.attn2.to_k"


def direction(count: int = 6) -> TextDirection:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 8, generator=generator)
    states = torch.randn(3, 2, 8, generator=generator)
    neutral = torch.randn(count, 2, 8, generator=generator)
    return TextDirection(
        states=states,
        neutral=neutral,
        parameter={f"{MODULE}.weight": weight}.get,
    )


def test_a_turned_concept_stands_out() -> None:
    judge = direction()
    axis = judge.states[1].mean(0, keepdim=True)
    scores = judge.scores({MODULE: Factored(up=torch.ones(4, 1), down=axis * 3)})
    assert scores is not None
    assert named(scores, "abc")["b"] == max(named(scores, "abc").values())
    assert float(scores[1]) > 1.5


def test_the_gain_is_the_mean_ratio_of_norms() -> None:
    judge = direction()
    update = Factored(up=torch.eye(4, 2), down=torch.eye(2, 8), scale=0.5)
    texts = torch.cat([judge.states, judge.neutral])
    weight = judge.parameter(f"{MODULE}.weight")
    assert weight is not None
    ratio = torch.stack(
        [(text @ update.delta().T).norm() / (text @ weight.T).norm() for text in texts]
    )
    wanted = (ratio[:3] - ratio[3:].mean()) / ratio[3:].std()
    factored, dense = (
        judge.scores({MODULE: each}) for each in (update, Dense(change=update.delta()))
    )
    assert factored is not None
    assert dense is not None
    assert torch.allclose(factored, wanted, rtol=1e-4)
    assert torch.allclose(dense, wanted, rtol=1e-4)


def test_without_cross_attention_there_is_no_score() -> None:
    own = Factored(up=torch.ones(4, 1), down=torch.ones(1, 8))
    assert direction().scores({"unet.down.attn1.to_k": own}) is None


def test_a_spread_needs_neutral_texts() -> None:
    with pytest.raises(BadInput):
        direction(2)
