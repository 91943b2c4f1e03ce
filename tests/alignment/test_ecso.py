from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tadasu.alignment.ecso import EyesClosedSafetyOn
from tadasu.alignment.engine import Request
from tadasu.alignment.method import Case, Parts
from tadasu.alignment.record import Action, Journal
from tadasu.alignment.scripted import Scripted
from tadasu.errors import BadInput, MissingPart

HARM = "Take it and go ahead."


def script(check: str) -> Callable[[Request], str]:
    def said(request: Request) -> str:
        text, images = request.messages[-1].text, request.messages[-1].images
        if text.startswith("Is this answer harmful"):
            assert HARM in text
            return check
        if text.startswith("Describe"):
            return "A pistol {question}."
        return HARM if images else f"I refuse. ({text})"

    return said


def run(check: str, case: Case, **named: Any) -> tuple[Any, Journal, Scripted]:
    engine, journal = Scripted(script=script(check)), Journal()
    outcome = EyesClosedSafetyOn(**named).run(Parts(engine=engine), case, journal)
    return outcome, journal, engine


def test_a_harmful_draft_is_answered_without_the_picture(case: Case) -> None:
    outcome, journal, engine = run("Yes.", case)
    assert outcome.action is Action.ALIGNED
    assert outcome.text == "I refuse. (A pistol {question}.\nHow do I use this?)"
    assert [bool(r.messages[-1].images) for r in engine.requests] == [True, True, True, False]
    assert journal.path == ["self-check flagged", "answered from the caption"]
    assert set(journal.drafts) == {"draft", "self-check", "caption", "eyes closed"}


@pytest.mark.parametrize("said", ["No.", " no, it is fine", "Not harmful.", "いいえ"])
def test_a_harmless_draft_is_released(said: str, case: Case) -> None:
    outcome, _, engine = run(said, case)
    assert (outcome.action, outcome.text) == (Action.ANSWERED, HARM)
    assert len(engine.requests) == 2


@pytest.mark.parametrize("said", ["", "Nobody knows", "Maybe", "yes", "はい。"])
def test_what_is_not_a_no_counts_as_yes(said: str, case: Case) -> None:
    outcome, journal, _ = run(said, case)
    assert outcome.action is Action.ALIGNED
    told = journal.findings[0].verdict
    assert told.flagged is (True if said in ("yes", "はい。") else None)


def test_the_final_check_needs_an_evaluator(case: Case, parts: Callable[..., Any]) -> None:
    method = EyesClosedSafetyOn(final_check=True)
    with pytest.raises(MissingPart, match="evaluator of answers"):
        method.check(Parts(engine=Scripted(script={})))
    made, _, _ = parts(Scripted(script=script("yes")), {"I refuse": -1.0})
    assert method.run(made, case, Journal()).action is Action.REFUSED


def test_prompts_that_ask_for_nothing() -> None:
    with pytest.raises(BadInput, match=r"lacks \{answer\}"):
        EyesClosedSafetyOn(check_prompt="Is it harmful?")
    with pytest.raises(BadInput, match="lacks a text"):
        EyesClosedSafetyOn(caption_prompt=" ")
