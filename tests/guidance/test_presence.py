"""Presence guidance: removes what is there, leaves what is not, and asks rarely."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from tadasu.guidance.presence import Evidence, PresenceGuidance, predicted
from tadasu.guidance.rule import Predictions, Start, Step

Make = Callable[..., Predictions]


def fresh(rule: PresenceGuidance, likeness: float = torch.nan, concepts: int = 1) -> Evidence:
    return rule.start(
        Start(
            count=20,
            weights=torch.ones(concepts, 1),
            latents=torch.zeros(1, 1, 3),
            likeness=torch.full((concepts, 1), likeness),
        )
    )


def test_exactly_the_concepts_share_is_removed(predictions: Make, at: Callable[..., Step]) -> None:
    """Δ_p = 0.6·Δ_n + something perpendicular: the perpendicular part is what is left."""
    rule = PresenceGuidance(threshold=0.3, probes=1)
    given = predictions([1, 1, 1], [1 + 0.6 * 2, 1, 1 + 5], [3, 1, 1])
    guided, state = rule.step(given, at(), fresh(rule))
    assert state.presence.item() == pytest.approx(0.6)
    assert guided.flatten().tolist() == pytest.approx([1, 1, 1 + 2 * 5])


def test_push_mirrors_the_share(predictions: Make, at: Callable[..., Step]) -> None:
    rule = PresenceGuidance(push=1.0, probes=1)
    given = predictions([0, 0, 0], [2, 0, 5], [2, 0, 0])
    guided, _ = rule.step(given, at(), fresh(rule))
    assert guided.flatten().tolist() == pytest.approx([-2 * 2, 0, 2 * 5])


@pytest.mark.parametrize("prompt", [[0, 3, 5], [-2, 3, 0], [0.5, 3, 0]])
def test_a_prompt_without_the_concept_is_untouched(
    predictions: Make, at: Callable[..., Step], prompt: list[float]
) -> None:
    rule = PresenceGuidance()
    given = predictions([0, 0, 0], prompt, [2, 0, 0])
    guided, _ = rule.step(given, at(), fresh(rule))
    assert torch.equal(guided, given.cfg(2.0))


def test_size_of_predictions_does_not_matter(predictions: Make, at: Callable[..., Step]) -> None:
    rule = PresenceGuidance(probes=1)
    small, _ = rule.step(predictions([0] * 3, [0.02, 0.01, 0], [0.03, 0, 0]), at(), fresh(rule))
    large, _ = rule.step(predictions([0] * 3, [20, 10, 0], [30, 0, 0]), at(), fresh(rule))
    torch.testing.assert_close(small * 1000, large)


def run_gate(rule: PresenceGuidance, presence: float, steps: int) -> list[int]:
    """At which steps the row is predicted when presence is constant."""
    state, asked = fresh(rule), []
    weights = torch.ones(1, 1)
    for index in range(steps):
        step = Step(index=index, count=steps, guidance_scale=2.0, signal=0.5, noise=0.9)
        wanted = rule.wants(step, state, weights)
        direction = torch.tensor([[[[2.0, 0.0, 0.0]]]])
        blank = torch.zeros(1, 1, 3)
        given = Predictions(
            unconditional=blank,
            prompt=blank + presence * direction[0],
            concepts=direction if wanted.any() else blank[None],
            evaluated=wanted,
            weights=weights,
            latents=blank,
        )
        guided, state = rule.step(given, step, state)
        opened = presence > 0.8 and index + 1 >= rule.probes
        expected = -rule.push * presence * 2 * 2 if opened else given.cfg(2.0)[0, 0, 0]
        assert guided[0, 0, 0] == pytest.approx(float(expected), abs=1e-5)
        if wanted.any():
            asked.append(index)
    return asked


def test_rows_are_rare_whatever_the_prompt_and_the_last_direction_is_held() -> None:
    rule = PresenceGuidance()
    for presence in (0.0, 1.0):
        assert run_gate(rule, presence, 20) == [0, 1, 2, 3, 6, 10, 14]
    assert run_gate(dataclasses.replace(rule, share=1.0), 1.0, 5) == [0, 1, 2, 3, 4]
    assert run_gate(dataclasses.replace(rule, share=0.0), 1.0, 5) == [0]


@pytest.mark.parametrize("count", [1, 2, 4, 10, 12, 15, 20, 28, 30, 50, 1000])
def test_the_default_costs_less_than_a_fifth_more(count: int) -> None:
    """Plain guidance has two rows a step."""
    rows = predicted(count, PresenceGuidance().share)
    assert 0 in rows
    assert max(rows) < count
    assert len(rows) == max(1, int(0.35 * count + 1e-9))
    if count > 2:
        assert len(rows) / (2 * count) < 0.2


def test_a_held_direction_grows_as_the_prompts_own(
    predictions: Make, at: Callable[..., Step]
) -> None:
    """Between two rows Δ_p has doubled, so the concept in it is taken to have doubled as well."""
    rule = PresenceGuidance(probes=1, share=0.0)
    _, state = rule.step(predictions([0, 0, 0], [3, 0, 4], [3, 0, 0]), at(), fresh(rule))
    later = dataclasses.replace(
        predictions([0, 0, 0], [6, 0, 8], [0, 0, 0]), evaluated=torch.zeros(1, 1, dtype=torch.bool)
    )
    guided, _ = rule.step(later, at(index=1), state)
    assert guided.flatten().tolist() == pytest.approx([0, 0, 16])


def test_evidence_waits_for_all_probes_but_words_do_not(
    predictions: Make, at: Callable[..., Step]
) -> None:
    rule = PresenceGuidance(probes=3)
    given = predictions([0, 0, 0], [2, 0, 5], [2, 0, 0])
    state = fresh(rule)
    for index, first in enumerate([4.0, 4.0, 0.0]):
        guided, state = rule.step(given, at(index=index), state)
        assert guided.flatten().tolist() == pytest.approx([first, 0, 10])
    guided, _ = rule.step(given, at(), fresh(rule, 1.0))
    assert guided.flatten().tolist() == pytest.approx([0, 0, 10])


def likeness_of(*values: float) -> Start:
    return Start(
        count=20,
        weights=torch.ones(len(values), 1),
        latents=torch.zeros(1, 1, 3),
        likeness=torch.tensor(values)[:, None],
    )


def test_only_the_likest_texts_are_predicted(at: Callable[..., Step]) -> None:
    weights = torch.ones(3, 1)
    for nearest, expected in ((1, [0, 1, 0]), (2, [0, 1, 1]), (0, [1, 1, 1])):
        rule = PresenceGuidance(nearest=nearest)
        state = rule.start(likeness_of(0.1, 0.8, 0.5))
        assert rule.wants(at(), state, weights).int().flatten().tolist() == expected
    rule = PresenceGuidance(nearest=1)
    unknown = rule.start(likeness_of(0.1, float("nan"), 0.5))
    assert rule.wants(at(), unknown, weights).all()


def test_a_text_that_does_not_concern_an_image_takes_no_place(at: Callable[..., Step]) -> None:
    start = likeness_of(0.9, 0.4)
    start.weights[0] = 0
    rule = PresenceGuidance(nearest=1)
    wanted = rule.wants(at(), rule.start(start), start.weights)
    assert wanted.int().flatten().tolist() == [0, 1]


def test_words_that_leave_no_doubt_open_the_gate(
    predictions: Make, at: Callable[..., Step]
) -> None:
    """The prediction shows no presence, but prompt and concept are nearly the same text."""
    rule = PresenceGuidance(push=0.5, alike=0.8)
    given = predictions([0, 0, 0], [0, 0, 5], [2, 0, 0])
    for likeness, told in ((0.8, 0.0), (0.85, 0.5), (0.9, 1.0), (1.0, 1.0)):
        guided, _ = rule.step(given, at(), rule.start(likeness_of(likeness)))
        expected = [-2 * 1.5 * told * 2, 0, 2 * 5]
        assert guided.flatten().tolist() == pytest.approx(expected, abs=1e-4)


def test_a_prompt_far_from_the_concept_is_never_asked_about(at: Callable[..., Step]) -> None:
    weights = torch.ones(1, 1)
    rule = PresenceGuidance(far=0.2)
    assert not rule.wants(at(), fresh(rule, 0.1), weights).any()
    assert rule.wants(at(), fresh(rule, 0.3), weights).all()
    assert rule.wants(at(), fresh(rule), weights).all()
    always = PresenceGuidance()
    assert always.wants(at(), fresh(always, -0.9), weights).all()


def test_two_concepts_are_judged_apart(predictions: Make, at: Callable[..., Step]) -> None:
    rule = PresenceGuidance(probes=1)
    given = predictions([0, 0, 0], [2, 0, 5], [2, 0, 0], [0, 7, 0])
    guided, state = rule.step(given, at(), fresh(rule, concepts=2))
    assert state.presence.flatten().tolist() == pytest.approx([1.0, 0.0])
    assert guided.flatten().tolist() == pytest.approx([0, 0, 10])
