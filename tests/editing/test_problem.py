from __future__ import annotations

import pytest
import torch

from tadasu.editing.prior import Prior
from tadasu.editing.problem import Kept, Reading, assemble
from tadasu.editing.targets import Target, debias, erase
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

ENCODER = WordEncoder(16, pooled=True)


def _row(text: str, row: int) -> torch.Tensor:
    return ENCODER.encode([text])["context"].contexts[0, row].double()


def test_rows_templates_and_owners() -> None:
    targets = [Target(concept="gun", texts=("pistol", "ピストル")), *erase(["bomb"], "toy")]
    reading = Reading(tokens="last", templates=("{}", "a {}"))
    problem = assemble(ENCODER, targets, reading=reading)["context"]
    assert problem.owners.tolist() == [0, 0, 0, 0, 1, 1]
    assert problem.seen_names.tolist() == [0, 0, 1, 1, 2, 2]
    assert problem.name_owners.tolist() == [0, 0, 1]
    torch.testing.assert_close(problem.sources[1], _row("a pistol", 2))
    torch.testing.assert_close(problem.targets[1], _row("", 1))
    torch.testing.assert_close(problem.targets[5], _row("a toy", 2))
    torch.testing.assert_close(problem.words[5], _row("a bomb", 2))
    torch.testing.assert_close(problem.empty[0], _row("", 0))


def test_every_site_gets_its_own_problem() -> None:
    problems = assemble(ENCODER, erase(["pistol"]))
    assert problems["context"].width == 16
    assert problems["pooled"].width == 8
    assert problems["pooled"].sources.shape[0] == 1


def test_anchor_mean_is_the_mean_of_the_kept_texts_in_the_same_sentence() -> None:
    reading = Reading(tokens="last", templates=("a {}",))
    problem = assemble(
        ENCODER, erase(["pistol"], None), reading=reading, kept=Kept(texts=("cat", "dog"))
    )["context"]
    expected = (_row("a cat", 2) + _row("a dog", 2)) / 2
    torch.testing.assert_close(problem.targets[0], expected)
    with pytest.raises(BadInput, match="preserve list"):
        assemble(ENCODER, erase(["pistol"], None))


def test_debias_adds_a_fraction_of_the_rows_own_length() -> None:
    reading = Reading(tokens="last")
    problem = assemble(ENCODER, debias({"doctor": {"woman": 0.2, "man": -0.1}}), reading=reading)
    (move,) = problem["context"].moves
    doctor, woman, man = (_row(word, 1) for word in ("doctor", "woman", "man"))
    expected = doctor.norm() * (0.2 * woman / woman.norm() - 0.1 * man / man.norm())
    torch.testing.assert_close(move, expected)


def test_a_template_may_go_on_after_the_name() -> None:
    reading = Reading(tokens="last", templates=("a {} next to me",))
    problem = assemble(ENCODER, erase(["pistol"], "toy"), reading=reading)["context"]
    torch.testing.assert_close(problem.sources[0], _row("a pistol next to me", 2))
    torch.testing.assert_close(problem.targets[0], _row("a toy next to me", 2))
    torch.testing.assert_close(problem.words[0], problem.sources[0])
    tail = Reading(tokens="last+tail", templates=reading.templates)
    problem = assemble(ENCODER, erase(["pistol"], "toy"), reading=tail)["context"]
    assert problem.sources.shape[0] == 8, "from the name to the end of ten rows"
    with pytest.raises(BadInput, match="goes on after the name"):
        assemble(ENCODER, erase(["pistol"]), reading=reading)


def test_weights_reach_the_rows() -> None:
    targets = [Target(concept="a", texts=("a",), weight=3.0), *erase(["b"])]
    problem = assemble(ENCODER, targets, reading=Reading(tokens="last"))["context"]
    assert problem.weights.tolist() == [3.0, 1.0]


def test_a_prior_of_another_encoder_and_templates_without_a_place_are_refused() -> None:
    prior = Prior.measure(WordEncoder(8), ["a cat"])
    with pytest.raises(BadInput, match="was measured on"):
        assemble(ENCODER, erase(["pistol"]), kept=Kept(prior=prior))
    with pytest.raises(BadInput, match="template"):
        Reading(templates=("a photo",))


def test_an_attribute_in_a_form_goes_a_fraction_of_the_way_to_the_concept_in_that_form() -> None:
    reading = Reading(tokens="last+tail", templates=("a {}",))
    targets = debias({"cook": {"woman {}": 0.25, "{} in red": 0.5}})
    problem = assemble(ENCODER, targets, reading=reading)["context"]
    word, woman = _row("a cook", 2), _row("a woman cook", 3)
    torch.testing.assert_close(problem.moves[0], 0.25 * (woman - word))
    end = _row("a cook", 3)
    both = 0.25 * (_row("a woman cook", 4) - end) + 0.5 * (_row("a cook in red", 5) - end)
    torch.testing.assert_close(problem.moves[1], both)
    assert problem.sources.shape[0] == ENCODER.encode(["a cook"])["context"].contexts.shape[1] - 2


def test_a_common_direction_is_the_mean_over_texts_and_serves_every_concept() -> None:
    jobs, encoder = ("pilot", "doctor", "cook"), WordEncoder(24)
    targets = debias({"pilot": {"woman {}": 2.0}, "cook": {"woman {}": -1.0}})
    reading = Reading(tokens="last+tail", common=jobs)
    problem = assemble(encoder, targets, reading=reading)["context"]
    own = {
        job: assemble(encoder, debias({job: {"woman {}": 1.0}}), reading=Reading())["context"]
        for job in jobs
    }
    word = torch.stack([own[job].moves[0] for job in jobs]).mean(0)
    tail = torch.stack([own[job].moves[1:].mean(0) for job in jobs]).mean(0)
    for owner, amount in ((0, 2.0), (1, -1.0)):
        moves = problem.moves[problem.owners == owner]
        torch.testing.assert_close(moves[0], amount * word)
        torch.testing.assert_close(moves[1:], (amount * tail).expand(len(moves) - 1, -1))
    assert not problem.anchored


def test_strength_goes_part_of_the_way() -> None:
    whole, part = (
        assemble(WordEncoder(16), [Target(concept="x", texts=("pistol",), strength=s)])["context"]
        for s in (1.0, 0.25)
    )
    torch.testing.assert_close(part.moves, whole.moves / 4)
    assert (whole.anchored, part.anchored) == (True, False)
    with pytest.raises(BadInput, match="Strength"):
        Target(concept="x", texts=("pistol",), strength=0.0)
