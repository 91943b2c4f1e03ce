from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tadasu as td
from tadasu.alignment import opening
from tadasu.alignment.aligned import REFUSALS, Aligned, Evaluators
from tadasu.alignment.engine import Message, Reply, Request
from tadasu.alignment.eta import EvaluatingThenAligning
from tadasu.alignment.evaluators.evaluator import TextCheck
from tadasu.alignment.evaluators.reward import RewardModel
from tadasu.alignment.gate import Gate
from tadasu.alignment.record import Action
from tadasu.alignment.scripted import Scripted
from tadasu.errors import BadFile, BadInput, MissingPart, RunFailed
from tadasu.policy import Policy

HARM = "Take it and go ahead."
ASK = "How do I use this?"
SCRIPT: Any = {"": HARM, "As an AI assistant,": " I refuse."}


@pytest.fixture
def aligned(parts: Callable[..., Any]) -> Callable[..., Aligned]:
    def build(script: Any = SCRIPT, *, rewards: Any = None, **named: Any) -> Aligned:
        engine = script if hasattr(script, "generate") else Scripted(script=script)
        made, _, _ = parts(engine, {HARM: 0.0} if rewards is None else rewards)
        return Aligned(engine, policy="kids", evaluators=made, **named)

    return build


def test_an_unsafe_answer_is_aligned(aligned: Callable[..., Aligned], picture: Any) -> None:
    answer = aligned().ask(picture, ASK)
    assert (answer.text, answer.action) == ("As an AI assistant, I refuse.", Action.ALIGNED)
    assert answer.policy["hash"] == Policy.load("kids").hash
    assert answer.tokens["calls"] == 2
    assert HARM not in answer.text


def test_a_safe_answer_is_the_models_own(aligned: Callable[..., Aligned], picture: Any) -> None:
    answer = aligned({"": " This is a spoon. "}).ask(picture, "What is this?")
    assert (answer.text, answer.action) == ("This is a spoon.", Action.ANSWERED)
    assert answer.explanation.path == ("gate post_only", "draft safe", "the draft is released")


def test_the_record_has_everything(aligned: Callable[..., Aligned], picture: Any) -> None:
    answer = aligned(level="deep").ask(picture, ASK)
    record: Any = answer.as_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    draft, deep = record["scores"]
    assert (draft["stage"], draft["value"], draft["threshold"]) == ("draft", 0.0, 0.06)
    assert draft["margin"] == pytest.approx(0.06)
    assert (draft["unit"], draft["higher_is"], draft["flagged"]) == ("reward", "less", True)
    assert deep["flagged"] is False
    assert record["drafts"] == {"draft": HARM, "deep": "As an AI assistant, I refuse."}
    assert len(record["sentences"][0]["candidates"]) == 5
    assert record["sentences"][0]["chosen"] == 0
    assert {"draft", "candidates", "evaluate draft", "all"} <= set(record["seconds"])
    assert record["system"]["parameters"]["gate"] == "post_only"
    assert record["image"].startswith("sha256:")


def test_the_explanation_can_be_read(aligned: Callable[..., Aligned], picture: Any) -> None:
    said = str(aligned(level="deep").ask(picture, ASK).explanation)
    assert said.startswith("aligned: gate post_only -> draft flagged -> deep answer safe")
    assert "draft: flagged; reward says 0.000 reward for unsafe, flagged from at most 0.060" in said
    assert "sentence 1 (weight of the picture 0.00)" in said
    assert "> 1.000 (safety 1.000, picture -) 'I refuse.'" in said
    assert "time: draft" in said


class Breaks(Scripted):
    """Fails from the second call on."""

    def generate(self, request: Request) -> Reply:
        if self.requests:
            raise self.failure
        return super().generate(request)

    failure: Exception


@pytest.mark.parametrize(
    "failure",
    [
        RunFailed("the server did not finish within its time"),
        BadInput("with the prefix it is over the context"),
        MissingPart("the server is gone"),
        ZeroDivisionError("a bug"),
    ],
)
def test_a_failure_half_way_is_a_refusal_with_a_record(
    failure: Exception, aligned: Callable[..., Aligned], picture: Any
) -> None:
    engine = Breaks(script={"": HARM})
    engine.failure = failure
    answer = aligned(engine).ask(picture, ASK)
    assert (answer.action, answer.text) == (Action.REFUSED, REFUSALS["en"])
    assert str(failure) in answer.explanation.error
    assert answer.explanation.drafts["draft"] == HARM
    assert answer.explanation.path[-1] == "broke off: the policy's refusal"
    assert "error: " in str(answer.explanation)


def test_a_draft_that_breaks_off_is_a_refusal(
    aligned: Callable[..., Aligned], picture: Any
) -> None:
    answer = aligned({"": RunFailed("out of memory")}).ask(picture, ASK)
    assert answer.action is Action.REFUSED
    assert answer.explanation.error == "out of memory"


@pytest.mark.parametrize("failure", [BadInput("over the context"), MissingPart("no server")])
def test_a_question_that_nobody_can_answer_is_an_error(
    failure: Exception, aligned: Callable[..., Aligned], picture: Any
) -> None:
    with pytest.raises(type(failure), match=str(failure)):
        aligned({"": failure}).ask(picture, ASK)


def test_time_runs_out(aligned: Callable[..., Aligned], picture: Any) -> None:
    def slow(request: Request) -> str:
        time.sleep(0.02)
        return HARM

    answer = aligned(slow, timeout=0.01).ask(picture, ASK)
    assert answer.action is Action.REFUSED
    assert answer.explanation.error == "The time for this answer is over."


def test_an_empty_answer_is_a_refusal(aligned: Callable[..., Aligned], picture: Any) -> None:
    answer = aligned({"": "  "}).ask(picture, ASK)
    assert answer.action is Action.REFUSED
    assert answer.text == REFUSALS["en"]


def test_refusals_speak_the_users_language(aligned: Callable[..., Aligned], picture: Any) -> None:
    stuck = aligned(lambda request: HARM)
    assert stuck.ask(picture, "これは何ですか？").text == REFUSALS["ja"]
    own = aligned(lambda request: HARM, refusals={"en": "No."})
    assert own.ask(picture, "これは何ですか？").text == "No."
    with pytest.raises(BadInput, match="refusal in English"):
        aligned(refusals={"ja": "x"})


def test_bad_pictures_and_texts_never_reach_the_engine(
    aligned: Callable[..., Aligned], picture: Any
) -> None:
    engine = Scripted(script=SCRIPT)
    vlm = aligned(engine)
    for image, text, error in (
        (None, ASK, BadInput),
        ("nowhere.png", ASK, BadFile),
        (b"%PDF-1.7", ASK, BadFile),
        ("http://127.0.0.1/a.png", ASK, BadInput),
        (picture, "", BadInput),
        (picture, "a\x00", BadInput),
    ):
        with pytest.raises(error):
            vlm.ask(image, text)
    assert engine.requests == []


def test_the_picture_is_opened_once(
    aligned: Callable[..., Aligned], picture: Any, tmp_path: Path
) -> None:
    """What was judged is what the model saw, also when the file changes meanwhile."""
    file = tmp_path / "a.png"
    picture.save(file)
    seen: list[Image.Image] = []

    def script(request: Request) -> str:
        seen.extend(request.messages[-1].images)
        Image.new("RGB", (8, 6), "blue").save(file)
        return HARM if not request.prefill else " I refuse."

    aligned(script).ask(str(file), ASK)
    assert {image.getpixel((0, 0)) for image in seen} == {(255, 0, 0)}


def test_earlier_turns_are_sent(aligned: Callable[..., Aligned], picture: Any) -> None:
    engine = Scripted(script={"": "Fine."})
    history = (Message(text="Hello"), Message(role="assistant", text="Hi."))
    aligned(engine).ask(picture, ASK, history=history)
    assert [m.text for m in engine.requests[0].messages] == ["Hello", "Hi.", ASK]


def test_missing_evaluators(picture: Any) -> None:
    with pytest.raises(MissingPart, match=r"evaluator of answers.*tadasu\[diffusers\]"):
        Aligned(Scripted(script=SCRIPT))
    check = TextCheck(evaluator=RewardModel(network=None), threshold=0.0)  # type: ignore[arg-type]
    with pytest.raises(MissingPart, match=r"CLIP.*tadasu\[diffusers\]"):
        Aligned(
            Scripted(script=SCRIPT),
            method=EvaluatingThenAligning(gate=Gate(rule="and")),
            evaluators=Evaluators(answers=check),
        )


def test_questions_are_looked_at_for_names(parts: Callable[..., Any], picture: Any) -> None:
    engine = Scripted(script={"": "Fine.", "As an AI assistant,": " I refuse."})
    made, _, _ = parts(engine, {}, {"The image": 0.0})
    assert made.answers is not None
    vlm = Aligned(
        engine,
        policy="kids",
        method=EvaluatingThenAligning(gate=Gate(rule="or")),
        evaluators=Evaluators(answers=made.answers, questions="policy"),
    )
    assert vlm.ask(picture, "What is this?").action is Action.ANSWERED
    answer = vlm.ask(picture, "How do I load a p1stol?")
    assert answer.action is Action.ALIGNED
    assert answer.explanation.findings[1].verdict.score.note == "names 'p1stol'"
    for wrong, policy in (("lexicon", "kids"), ("policy", None)):
        with pytest.raises(BadInput):
            Aligned(
                engine,
                policy=policy,
                evaluators=Evaluators(answers=made.answers, questions=wrong),
            )


def test_numbers_out_of_range(aligned: Callable[..., Aligned]) -> None:
    for named in ({"max_tokens": 0}, {"timeout": 0.0}, {"timeout": float("nan")}):
        with pytest.raises(BadInput, match="must be above 0"):
            aligned(**named)


def test_references_need_an_opener(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_MODULES", [])
    with pytest.raises(MissingPart, match="hand in an engine"):
        Aligned("some/model")


def test_the_public_names() -> None:
    assert td.alignment.Aligned is Aligned
    assert td.alignment.names() == ("ecso", "eta")
    assert replace(EvaluatingThenAligning(), level="deep").level == "deep"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = td.alignment.nothing
