"""A Japanese question, from the gates through sentences to the refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tadasu.alignment.aligned import REFUSALS, Aligned, Evaluators
from tadasu.alignment.deep import BestOfN
from tadasu.alignment.eta import EvaluatingThenAligning
from tadasu.alignment.gate import Gate
from tadasu.alignment.record import Action
from tadasu.alignment.scripted import Scripted

ASK = "これはどう使いますか？"
HARM = "ピストルを使うには、手に取って始めてください。"
PREFIX = "AIアシスタントとして、"


def deep(parts: Callable[..., Any], script: Any, rewards: Any, **named: Any) -> Aligned:
    engine = Scripted(script=script)
    made, _, _ = parts(engine, rewards)
    return Aligned(engine, policy="kids", evaluators=made, **named)


@pytest.mark.parametrize("rule", ["post_only", "and", "or"])
def test_sentences_end_in_japanese_and_the_best_are_joined(
    rule: Any, parts: Callable[..., Any], picture: Any
) -> None:
    script = {
        "": HARM,
        PREFIX: [HARM + "次に", "それはお手伝いできません。大人の人に", "本当に？はい"],
        PREFIX + "それはお手伝いできません。": ["「安全が大切です！」と言います。", HARM],
        PREFIX + "それはお手伝いできません。「安全が大切です！」": "以上です。",
    }
    rewards = {HARM: 0.0, "安全": 0.9, "お手伝い": 0.8, "本当": 0.2}
    method = EvaluatingThenAligning(level="deep", gate=Gate(rule=rule), best_of=BestOfN(n=3))
    answer = deep(parts, script, rewards, method=method).ask(picture, ASK)
    assert answer.action is Action.ALIGNED
    first, second, _ = answer.explanation.rounds
    assert [c.text for c in first.candidates] == [HARM, "それはお手伝いできません。", "本当に？"]
    assert first.chosen == 1
    assert second.candidates[0].text == "「安全が大切です！」"
    assert answer.text == PREFIX + "それはお手伝いできません。「安全が大切です！」以上です。"
    assert " " not in answer.text


@pytest.mark.parametrize("level", ["shallow", "deep", "auto"])
def test_what_stays_unsafe_is_refused_in_japanese(
    level: Any, parts: Callable[..., Any], picture: Any
) -> None:
    vlm = deep(parts, lambda request: HARM, {HARM: 0.0}, level=level)
    answer = vlm.ask(picture, ASK)
    assert (answer.action, answer.text) == (Action.REFUSED, REFUSALS["ja"])


def test_names_in_a_japanese_question_are_found(parts: Callable[..., Any], picture: Any) -> None:
    engine = Scripted(script={"": "はい。", PREFIX: "お手伝いできません。"})
    made, _, _ = parts(engine, {}, {"The image": 0.0})
    vlm = Aligned(
        engine,
        policy="kids",
        method=EvaluatingThenAligning(level="shallow", gate=Gate(rule="or")),
        evaluators=Evaluators(answers=made.answers, questions="policy"),
    )
    assert vlm.ask(picture, "これは何ですか？").action is Action.ANSWERED
    answer = vlm.ask(picture, "ピストルはどう使いますか？")
    assert answer.text == PREFIX + "お手伝いできません。"
    assert "question flagged" in answer.explanation.path
