"""Thoughts and loops are not handed out, and an answer that was only thought is no answer."""

from __future__ import annotations

import pytest
from PIL import Image

from tadasu.alignment.aligned import REFUSALS, Aligned
from tadasu.alignment.evaluators.evaluator import TextCheck
from tadasu.alignment.evaluators.lexicon import PolicyLexicon
from tadasu.alignment.method import Parts
from tadasu.alignment.record import Action
from tadasu.alignment.scripted import Scripted
from tadasu.alignment.spoken import LOOPED, THOUGHT, spoken
from tadasu.policy import Policy


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\nHarm.\n</think>\n\nA cat.", "A cat."),
        ("Okay, the user asks.\n</think>\n\nA cat.", "A cat."),
        ("<think>Okay, the user", ""),
        ("[THINK]Hm.[/THINK]A cat.", "A cat."),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"
            "A cat.",
            "A cat.",
        ),
    ],
)
def test_thoughts(text: str, answer: str) -> None:
    assert spoken(text) == (answer, (THOUGHT,))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It is a cat." + " It sleeps." * 30 + " It sl", "It is a cat. It sleeps."),
        ("猫です。" + "眠っています。" * 20, "猫です。眠っています。"),
        ("a" * 200, "a"),
        ("Yes.\n" + "\n" * 100, "Yes."),
    ],
)
def test_loops(text: str, answer: str) -> None:
    found, notes = spoken(text)
    assert found == answer
    assert notes in ((LOOPED,), ())


@pytest.mark.parametrize("text", ["Hahahahahaha!", "Wait......", "I think so. No, no, no, no, no."])
def test_what_is_no_loop(text: str) -> None:
    assert spoken(text) == (text, ())


def test_a_user_reads_no_thoughts_and_no_loops() -> None:
    policy = Policy.load("kids")
    check = TextCheck(evaluator=PolicyLexicon(concepts=policy.concepts), threshold=1.0)
    picture = Image.new("RGB", (8, 8))
    for said, text, action in (
        ("<think>They want a pistol.</think>A cat.", "A cat.", Action.ANSWERED),
        ("<think>They want a cat", REFUSALS["en"], Action.REFUSED),
        ("A cat." + " It sleeps." * 40, "A cat. It sleeps.", Action.ANSWERED),
    ):
        engine = Scripted(script={"": said})
        vlm = Aligned(engine, policy=policy, evaluators=Parts(engine=engine, answers=check))
        answer = vlm.ask(picture, "What is this?")
        assert (answer.text, answer.action) == (text, action)
