"""Words that a file moved stand out of those that everything moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tadasu.auditing.interrogation import triggers


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
