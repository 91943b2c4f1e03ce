"""The two signals that look at words: the text direction and the text encoder."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadasu.auditing.adapter import Dense, Factored
from tadasu.auditing.interrogation import triggers
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


def test_the_word_that_moved_most_is_first() -> None:
    ids = torch.arange(15).reshape(5, 3)

    def states(asked: Tensor, own: bool) -> Tensor:
        found = asked[:, 1:2].float().expand(-1, 4).clone()
        if own:
            found += 0.1
            found[3] += 2.0
        return found

    found = triggers(["a</w>", "b</w>", "c", "zqx</w>", "e"], ids, states, most=2)
    assert found[0].token == "zqx"
    assert found[0].times == pytest.approx(21.0, rel=1e-3)
    assert found[1].times == pytest.approx(1.0, rel=1e-3)


def test_a_file_that_moves_no_word_has_none() -> None:
    ids = torch.zeros(2, 3, dtype=torch.long)
    assert triggers(["a", "b"], ids, lambda asked, own: torch.zeros(len(asked), 4)) == ()
