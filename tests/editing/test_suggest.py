from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tadasu.editing.problem import Reading
from tadasu.editing.suggest import Outcome, leaking, suggest
from tadasu.editing.uce import UnifiedConceptEditing
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadInput

SOLVER = UnifiedConceptEditing(reading=Reading(tokens="last"))


@dataclass(frozen=True)
class Word:
    id: str
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)


WORDS = [Word("pistol", {"en": ("pistol",), "ja": ("ピストル",)}), Word("bomb", {"en": ("bomb",)})]


def _log(pistol: int, bomb: int, n: int = 40) -> list[Outcome]:
    rows = [Outcome(prompt="a pistol", concept="pistol", flagged=i < pistol) for i in range(n)]
    rows += [Outcome(prompt="a bomb", concept="bomb", flagged=i < bomb) for i in range(n)]
    rows += [Outcome(prompt=p, concept="", flagged=False) for p in ("a cat", "a pistol shrimp")]
    return [*rows, Outcome(prompt="a house", concept="", flagged=None)]


def test_only_what_surely_leaks_is_a_candidate_and_the_worst_comes_first() -> None:
    assert list(leaking(_log(10, 30))) == ["bomb", "pistol"]
    assert list(leaking(_log(1, 20), limit=0.1)) == ["bomb"]
    unknown = [Outcome(prompt="x", concept="y", flagged=None)] * 50
    assert leaking(unknown) == {}


def test_the_suggestion_has_all_languages_a_preserve_list_and_what_to_expect() -> None:
    found = suggest(WordEncoder(24), SOLVER, WORDS, _log(20, 0))
    assert found is not None
    assert [target.texts for target in found.targets] == [("pistol", "ピストル")]
    assert set(found.preserve) == {"a cat", "a house"}, "prompts that name the concept are not kept"
    assert found.expected["context"].worst_residual < 0.2
    worst = found.expected["context"].worst_drift
    assert worst is not None
    assert worst <= found.unguarded["context"]


def test_nothing_leaks_and_unknown_concepts() -> None:
    assert suggest(WordEncoder(24), SOLVER, WORDS, _log(0, 0)) is None
    with pytest.raises(BadInput, match="bomb"):
        suggest(WordEncoder(24), SOLVER, WORDS[:1], _log(0, 30))


def test_a_small_leak_goes_part_of_the_way_and_a_large_one_all_of_it() -> None:
    found = suggest(WordEncoder(24), SOLVER, WORDS, _log(400, 60, n=400), limit=0.1)
    assert found is not None
    strength = {target.concept: target.strength for target in found.targets}
    assert strength["pistol"] >= 0.9
    assert 0.3 < strength["bomb"] < 0.6, "from up to 19 % to 10 %"
    for name in ("pistol", "bomb"):
        residual = found.expected["context"].residual[name]
        leak = found.leaks[name].value
        assert found.expected_leak(name) == pytest.approx(
            leak * (1 - strength[name] * (1 - residual))
        )
    assert found.expected_leak("bomb") < 0.12


def test_a_leak_that_may_stay_as_it_is_is_no_target() -> None:
    assert suggest(WordEncoder(24), SOLVER, WORDS, _log(8, 0, n=40), limit=0.3) is None
