from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tadasu.guidance.safree import Safree

CONCEPT = torch.tensor([[1.0, 0.0, 0.0, 0.0]])


def test_the_token_without_which_the_prompt_is_far_from_the_concept_is_toxic() -> None:
    """Without token 1 the prompt has lost what it shares with the concept."""
    masked = torch.tensor([[3.0, 1, 0, 0], [0.0, 1, 3, 0], [3.0, 0, 1, 0]])
    assert Safree().toxic(masked, CONCEPT).tolist() == [False, True, False]
    assert Safree(alpha=5.0).toxic(masked, CONCEPT).tolist() == [False] * 3


def test_toxic_states_lose_the_concept_and_stay_among_the_prompts_own() -> None:
    masked = torch.tensor([[3.0, 1, 0, 0], [0.0, 1, 3, 0], [3.0, 0, 1, 0]])
    states = torch.tensor([[1.0, 2, 3, 4], [5.0, 6, 7, 8], [1.0, 1, 1, 1]])
    found = Safree().project(states, masked, CONCEPT)
    # masked spans the first three axes; the concept is the first; the fourth is nobody's
    torch.testing.assert_close(found[1], torch.tensor([0.0, 6, 7, 0]), rtol=1e-4, atol=1e-4)
    assert torch.equal(found[[0, 2]], states[[0, 2]])


def test_nothing_of_the_concepts_is_left_in_a_toxic_row() -> None:
    """The order of the projections: what the prompt's own versions hold comes off last."""
    source = torch.Generator().manual_seed(0)
    concepts, states = torch.randn(2, 4, 9, generator=source)
    masked = torch.randn(4, 9, generator=source) + concepts[:1]
    found = Safree(alpha=-1.0).project(states, masked, concepts[:2])
    torch.testing.assert_close(found @ concepts[:2].T, torch.zeros(4, 2), rtol=0, atol=1e-5)


def test_self_validation_lasts_longer_the_more_was_changed() -> None:
    rule = Safree()
    assert rule.share_of(0.0) == pytest.approx(1 / 50)
    assert rule.share_of(0.5333) == pytest.approx(6 / 50)
    assert rule.share_of(2.0) == pytest.approx(11 / 50)
    states = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert Safree(validate=False).share(states, states, states) == 1.0


AUTHORS = json.loads((Path(__file__).parent / "recorded/safree.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", AUTHORS["cases"])
def test_rows_and_steps_are_the_authors(case: dict[str, Any]) -> None:
    rule = Safree.preset("published")
    states, masked, concepts, expected = (
        torch.tensor(case[key], dtype=torch.float64)
        for key in ("states", "masked", "concepts", "projected")
    )
    own = slice(1, len(masked) + 1)
    found = rule.project(states[own], masked, concepts)
    torch.testing.assert_close(found, expected[own], rtol=1e-9, atol=1e-9)
    share = rule.share(states[: len(masked) + 2], masked, concepts)
    assert share * 50 == pytest.approx(case["last_step"] + 1)


@pytest.mark.parametrize("case", AUTHORS["betas"])
def test_the_number_of_steps_is_the_authors(case: dict[str, float]) -> None:
    assert Safree().share_of(case["beta"]) * 50 == pytest.approx(case["last_step"] + 1)


def test_dependent_concepts_do_not_break_the_projection() -> None:
    twice = CONCEPT.repeat(3, 1) * torch.tensor([[1.0], [2.0], [0.0]])
    masked = torch.eye(4)  # without token 0 the prompt is the concept, so token 0 is not toxic
    found = Safree(alpha=-0.9).project(torch.ones(4, 4), masked, twice)
    torch.testing.assert_close(found[:, 0], torch.tensor([1.0, 0.0, 0.0, 0.0]))


def test_a_prompt_of_one_token_is_all_there_is() -> None:
    assert Safree().toxic(torch.ones(1, 4), CONCEPT).tolist() == [True]
