"""The published rule on fixed scores, our departures, and the defects of the published code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from tadasu.alignment.deep import BestOfN
from tadasu.alignment.engine import Request
from tadasu.alignment.eta import EvaluatingThenAligning, published
from tadasu.alignment.evaluators.cosine import UNSAFE_TEXT, ImageTextCosine
from tadasu.alignment.evaluators.evaluator import ImageCheck, TextCheck
from tadasu.alignment.evaluators.reward import DEEP_INSTRUCTION, POST_INSTRUCTION, RewardModel
from tadasu.alignment.gate import Gate
from tadasu.alignment.method import Case, Parts
from tadasu.alignment.record import Action, Journal
from tadasu.alignment.scripted import Scripted
from tadasu.errors import MissingPart, RunFailed, UnknownName

Build = Callable[..., Any]
ETA = EvaluatingThenAligning.preset("published")
HARM, SAFE = "Take it and go ahead.", "This is a spoon."


def run(method: EvaluatingThenAligning, parts: Parts, case: Case) -> tuple[Any, Journal]:
    journal = Journal()
    return method.run(parts, case, journal), journal


# --- the published rule and constants ---------------------------------------------------------


def test_the_published_constants() -> None:
    assert ETA.parameters() == {
        "max_tokens": 1024,
        "level": "deep",
        "gate": "and",
        "prefixes": {"en": "As an AI assistant"},
        "best_of": {
            "n": 5,
            "temperature": 1.5,
            "top_k": 5,
            "alpha": 1.0,
            "until": "full stop",
            "sentence_tokens": 70,
            "stop_before_flagged": False,
        },
        "final_check": False,
    }


def test_the_published_thresholds_and_texts(fixed_clip: Any, fixed_rewards: Any) -> None:
    made = published(Scripted(script={}), fixed_clip(), fixed_rewards(by_text={}))
    assert made.answers is not None
    assert made.images is not None
    assert (made.answers.threshold, made.images.threshold) == (0.06, 0.16)
    assert isinstance(made.answers.evaluator, RewardModel)
    assert isinstance(made.candidates, RewardModel)
    assert made.answers.evaluator.instruction == POST_INSTRUCTION
    assert made.candidates.instruction == DEEP_INSTRUCTION
    assert isinstance(made.images.evaluator, ImageTextCosine)
    assert made.images.evaluator.texts == {"unsafe": (UNSAFE_TEXT,)}
    assert UNSAFE_TEXT == (
        "The image contains unsafe/porn/violent/politic/physical harmful/illegal/privacy contents."
    )
    assert "pricacy" in POST_INSTRUCTION  # the spelling belongs to the calibration
    assert "extremely high" in POST_INSTRUCTION
    assert "extremely high" not in DEEP_INSTRUCTION


@pytest.mark.parametrize(
    ("reward", "cosine", "aligned"),
    [
        (0.0600001, 0.9, False),  # the answer is safe above 0.06
        (0.06, 0.16, True),  # both on their thresholds count as unsafe
        (0.06, 0.1599999, False),  # the picture is safe below 0.16
        (-5.0, 0.0, False),  # a flagged answer alone is not aligned
        (5.0, 0.99, False),  # a flagged picture alone is not aligned
        (-5.0, 0.99, True),
    ],
)
def test_the_published_rule_on_fixed_scores(
    reward: float, cosine: float, aligned: bool, case: Case, parts: Build
) -> None:
    engine = Scripted(script={"": HARM, "As an AI assistant": " I refuse."})
    made, _, clip = parts(
        engine, {HARM: reward, "refuse": 1.0}, {"The image contains unsafe": cosine}
    )
    outcome, _ = run(ETA, made, case)
    assert outcome.action is (Action.ALIGNED if aligned else Action.ANSWERED)
    assert (UNSAFE_TEXT in clip.seen) == (reward <= 0.06)  # CLIP runs only after a flagged answer


def test_the_choice_on_fixed_scores(case: Case, parts: Build) -> None:
    """Round 1 by reward alone, round 2 by reward + cosine / 2, a round with an end by reward."""
    script = {
        "": HARM,
        "As an AI assistant": [" a one. x", " b one. x", " c one. x", " d one. x", " e one. x"],
        "As an AI assistant b one.": [" f. x", " g. x", " h. x", " i. x", " j. x"],
        "As an AI assistant b one. g.": [" k.", " l. x", " m. x", " n. x", " o. x"],
    }
    rewards = {
        HARM: 0.0,
        " k.": 0.3, " l.": 0.5, " m.": 0.1, " n.": 0.0, " o.": 0.0,
        " f.": 0.40, " g.": 0.35, " h.": 0.1, " i.": 0.1, " j.": 0.1,
        " b one.": 0.9, " a one.": 0.8, " c one.": 0.1, " d one.": 0.1, " e one.": 0.1,
    }  # fmt: skip
    cosines = {"The image": 0.5, " a one.": 0.99, " f.": 0.0, " g.": 0.2, " k.": 0.99, " l.": 0.0}
    engine = Scripted(script=script | {"As an AI assistant b one. g. l.": " end."})
    made, seen, _ = parts(engine, rewards, cosines)
    outcome, journal = run(ETA, made, case)
    first, second, third = journal.rounds[:3]
    assert first.chosen == 1  # by cosine it would have been the first
    assert [c.fit for c in first.candidates] == [None] * 5
    assert second.weight == 0.5
    assert second.chosen == 1
    assert second.candidates[1].score == pytest.approx(0.35 + 0.5 * 0.2)
    assert second.candidates[0].score == pytest.approx(0.40)
    assert third.weight == 0.0  # " k." ended its answer
    assert third.chosen == 1
    assert outcome.text.startswith("As an AI assistant b one. g. l.")
    deep = [e for e in seen.seen if e.question == DEEP_INSTRUCTION]
    assert deep[5].answer == "As an AI assistant b one. f."  # the whole text so far, with prefix
    post = [e for e in seen.seen if e.question == POST_INSTRUCTION]
    assert [e.answer for e in post] == [HARM]  # no check of the aligned answer, as published


def test_the_published_requests(case: Case, parts: Build) -> None:
    engine = Scripted(script={"": HARM, "As an AI assistant": " no."})
    made, _, _ = parts(engine, {HARM: 0.0})
    run(ETA, made, case)
    draft, deep = engine.requests
    assert (draft.sampling.temperature, draft.n, draft.until) == (0.0, 1, "end")
    assert (deep.sampling.temperature, deep.sampling.top_k, deep.n) == (1.5, 5, 5)
    assert (deep.until, deep.max_tokens, deep.prefill) == ("full stop", 70, "As an AI assistant")


# --- what we add ------------------------------------------------------------------------------


def ours(**named: Any) -> EvaluatingThenAligning:
    return EvaluatingThenAligning(**named)


def test_auto_tries_the_prefix_first(case: Case, parts: Build) -> None:
    engine = Scripted(script={"": HARM, "As an AI assistant,": " I refuse."})
    made, _, _ = parts(engine, {HARM: 0.0})
    outcome, journal = run(ours(), made, case)
    assert outcome.text == "As an AI assistant, I refuse."
    assert [r.n for r in engine.requests] == [1, 1]
    assert journal.path == ["gate post_only", "draft flagged", "shallow answer safe"]


def test_auto_goes_deep_where_the_prefix_did_not_help(case: Case, parts: Build) -> None:
    def script(request: Request) -> list[str]:
        if not request.prefill:
            return [HARM]
        return [" Sure. " + HARM] if request.n == 1 else [" bad way.", " I refuse."]

    made, _, _ = parts(Scripted(script=script), {"Take": 0.0, "bad": -1.0})
    outcome, journal = run(ours(), made, case)
    assert outcome.text == "As an AI assistant, I refuse."
    assert journal.path[-2:] == ["shallow answer flagged", "deep answer safe"]
    assert [c.flagged for c in journal.rounds[0].candidates] == [True, False, True, False, True]


def test_what_stays_unsafe_is_refused(case: Case, parts: Build) -> None:
    made, _, _ = parts(Scripted(script=lambda request: HARM), {"Take": 0.0})
    for level in ("shallow", "deep", "auto"):
        outcome, journal = run(ours(level=level), made, case)
        assert (outcome.action, outcome.text) == (Action.REFUSED, "")
        assert journal.path[-1] == "the policy's refusal"


def test_a_bad_turn_ends_the_answer_before_it(case: Case, parts: Build) -> None:
    script = {
        "": HARM,
        "As an AI assistant,": " I refuse. However",
        "As an AI assistant, I refuse.": " However, Take it.",
    }
    made, _, _ = parts(Scripted(script=script), {"Take": 0.0})
    outcome, journal = run(ours(level="deep"), made, case)
    assert outcome.text == "As an AI assistant, I refuse."
    assert outcome.action is Action.ALIGNED
    assert journal.rounds[-1].chosen is None


def test_japanese_questions_get_a_japanese_prefix(case: Case, parts: Build) -> None:
    engine = Scripted(script={"": HARM, "AIアシスタントとして、": "お手伝いできません。"})
    made, _, _ = parts(engine, {HARM: 0.0})
    outcome, _ = run(ours(), made, replace(case, question="使い方は？"))
    assert outcome.text == "AIアシスタントとして、お手伝いできません。"


def test_a_flagged_question_opens_the_gate_like_a_picture(case: Case, parts: Build) -> None:
    engine = Scripted(script={"": HARM, "As an AI assistant,": " I refuse."})
    made, reward, _ = parts(engine, {HARM: 0.0}, {"The image": 0.0})
    method = ours(gate=Gate(rule="and"))
    assert run(method, made, case)[0].action is Action.ANSWERED
    asked = TextCheck(
        evaluator=RewardModel(network=type(reward)(by_text={}, default=-1.0)), threshold=0.0
    )
    outcome, journal = run(method, replace(made, questions=asked), case)
    assert outcome.action is Action.ALIGNED
    assert [f.stage for f in journal.findings] == ["draft", "image", "question", "shallow"]


def test_an_evaluator_that_fails_counts_as_flagged(case: Case, parts: Build) -> None:
    class Broken:
        name = "broken"

        def score(self, exchanges: Any) -> Any:
            raise RuntimeError("no\nmemory")

    made, _, _ = parts(Scripted(script=lambda request: SAFE), {})
    broken = replace(made, answers=TextCheck(evaluator=Broken(), threshold=0.0), candidates=None)
    outcome, journal = run(ours(), broken, case)
    assert outcome.action is Action.REFUSED
    assert journal.findings[0].verdict.flagged is None
    assert journal.findings[0].verdict.score.note == "failed: RuntimeError: no memory"


def test_missing_evaluators_say_what_installs_them(case: Case, parts: Build) -> None:
    made, _, _ = parts(Scripted(script={}), {})
    with pytest.raises(MissingPart, match=r"reward model.*tadasu\[diffusers\]"):
        ours().check(replace(made, answers=None))
    with pytest.raises(MissingPart, match=r"CLIP.*tadasu\[diffusers\]"):
        ETA.check(replace(made, images=None))
    ours().check(replace(made, images=None))  # its gate looks at answers alone
    with pytest.raises(UnknownName, match="Did you mean deep"):
        ours(level="depe")
    with pytest.raises(UnknownName):
        EvaluatingThenAligning.preset("nothing")


# --- defects of the published code (reference/alignment.md §1.6) ------------------------------


def test_called_without_arguments_it_aligns(case: Case, parts: Build) -> None:
    """Published default ``pre_threshold=16.0`` against cosines: nothing was ever aligned."""
    engine = Scripted(
        script={"": HARM, "As an AI assistant,": " no.", "As an AI assistant": " no."}
    )
    made, _, _ = parts(engine, {HARM: 0.0})
    assert run(EvaluatingThenAligning(), made, case)[0].action is Action.ALIGNED
    assert run(EvaluatingThenAligning.preset("published"), made, case)[0].action is Action.ALIGNED
    assert made.images.threshold < 1


def test_the_sign_of_the_reward(case: Case, parts: Build) -> None:
    """A re-implementation aligned exactly the answers that were judged safe."""
    engine = Scripted(script={"": SAFE, "As an AI assistant": " no."})
    made, _, _ = parts(engine, {SAFE: 3.0})
    assert run(ETA, made, case)[0].text == SAFE


def test_cosines_do_not_depend_on_the_logit_scale(picture: Image.Image, fixed_clip: Any) -> None:
    """The published code divides logits by 100 whatever the scale is."""
    for scale in (14.28, 100.0):
        clip = fixed_clip(by_text={"The image": 0.25}, logit_scale=scale)
        score = ImageTextCosine(network=clip).score(picture)[0]
        assert score.value == pytest.approx(0.25)


def test_n_is_not_top_k() -> None:
    """One argument was both the number of candidates and the width of the draws."""
    best = BestOfN(n=3, top_k=40)
    assert (best.n, best.top_k) == (3, 40)


def test_every_kind_of_sentence_ends(case: Case, parts: Build) -> None:
    """Only the token of a full stop ended a sentence; ``3.5`` and ``e.g.`` did too."""
    script = {
        "": HARM,
        "As an AI assistant,": " Why? No! 1. x e.g. 3.5 y.",
        "As an AI assistant, Why?": " No! z.",
        "As an AI assistant, Why? No!": " v 3.5 y.",
    }
    made, _, _ = parts(Scripted(script=script), {HARM: 0.0})
    outcome, journal = run(ours(level="deep"), made, case)
    assert [r.candidates[0].text for r in journal.rounds] == [" Why?", " No!", " v 3.5 y."]
    assert outcome.text == "As an AI assistant, Why? No! v 3.5 y."


def test_candidates_are_drawn_together(case: Case, parts: Build) -> None:
    """They were drawn one by one."""
    engine = Scripted(script={"": HARM, "As an AI assistant,": " no."})
    made, _, _ = parts(engine, {HARM: 0.0})
    run(ours(level="deep"), made, case)
    assert [r.n for r in engine.requests] == [1, 5]


def test_the_answer_is_checked_at_the_end(case: Case, parts: Build) -> None:
    """The published code hands out whatever the last round chose."""
    engine = Scripted(script=lambda request: HARM)
    made, _, _ = parts(engine, {"Take": 0.0})
    assert run(ETA, made, case)[0].action is Action.ALIGNED
    assert run(replace(ETA, final_check=True), made, case)[0].action is Action.REFUSED


def test_no_candidate_that_can_be_scored(case: Case, parts: Build) -> None:
    engine = Scripted(script=lambda request: HARM)
    made, _, _ = parts(engine, {"As an AI": float("nan"), "Take": 0.0})
    with pytest.raises(RunFailed, match="No candidate could be scored"):
        run(ETA, made, case)


def test_the_image_check_names_its_concept(picture: Image.Image, fixed_clip: Any) -> None:
    """Reviewers asked for one score a hazard instead of one for all."""
    clip = fixed_clip(by_text={"pistol": 0.3, "beer": 0.1})
    texts = {"weapons": ("a pistol", "a gun"), "alcohol": ("beer",)}
    check = ImageCheck(
        evaluator=ImageTextCosine(network=clip, texts=texts),
        threshold=0.2,
        by_concept={"alcohol": 0.05},
    )
    weapons, alcohol = check.examine(picture)
    assert weapons.verdict.score.concept == "weapons"
    assert weapons.verdict.score.note == "a pistol"
    assert weapons.margin == pytest.approx(0.1)
    assert weapons.flagged
    assert alcohol.flagged
