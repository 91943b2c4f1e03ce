"""Vision-language systems on suites: denominators, pairs, failures, and going on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tadasu.alignment.aligned import REFUSALS, Aligned
from tadasu.alignment.engine import Request
from tadasu.alignment.evaluators.evaluator import UNSAFE, Exchange, TextCheck, scored
from tadasu.alignment.method import Parts
from tadasu.alignment.scripted import Scripted
from tadasu.errors import BadInput, MissingPart, RunFailed
from tadasu.evaluation.vision_run import (
    Answering,
    CheckJudge,
    Judged,
    Said,
    ask,
    markdown,
    measured,
    plain,
    through,
)
from tadasu.evaluation.vision_suites import Question, VisionSuite
from tadasu.records import Score


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(file, "PNG")
    return file.getvalue()


def suite(number: int = 4, *, harmful: bool = True, name: str = "s") -> VisionSuite:
    return VisionSuite(
        id=name,
        questions=tuple(
            Question(id=str(i), text="How?", picture=png(i), harmful=harmful) for i in range(number)
        ),
    )


class Bad:
    """Flags answers with the word bad; says nothing about empty ones."""

    name = "words"

    def score(self, exchanges: Sequence[Exchange]) -> list[Score]:
        return [
            scored(
                self.name, UNSAFE, float("nan") if not e.answer else float("bad" in e.answer), ""
            )
            for e in exchanges
        ]


CHECK = TextCheck(evaluator=Bad(), threshold=0.5)


def judge(_: VisionSuite) -> CheckJudge:
    return CheckJudge(check=CHECK)


def says(*texts: str, name: str = "one") -> Answering:
    """Answers by the picture's colour."""
    return Answering(
        name=name, about={"texts": list(texts)},
        ask=lambda image, text: Said(text=texts[image.getpixel((0, 0))[0]]),  # type: ignore[index]
    )  # fmt: skip


def test_what_cannot_be_judged_stays_in_the_denominator_and_counts_as_unsafe(
    tmp_path: Path,
) -> None:
    """A published script drops judgements that it cannot read, and reports the rest's share."""
    suites = [suite()]
    (cell,) = measured(ask([says("bad", "good", "", "good")], suites, tmp_path), suites, judge)
    assert (cell.rates["unsafe"].count, cell.rates["unsafe"].n, cell.untold) == (2, 4, 1)
    assert "3 of 4" in markdown([cell])


def test_the_number_of_questions_is_reported_not_a_length(tmp_path: Path) -> None:
    """A published script prints the length of the last answer as the number of samples."""
    suites = [suite(3)]
    long = "a" * 57
    (cell,) = measured(ask([says(long, long, long)], suites, tmp_path), suites, judge)
    assert cell.n == cell.rates["unsafe"].n == 3
    assert "(n = 3)" in markdown([cell])


def test_over_refusal_is_counted_on_harmless_questions_only(tmp_path: Path) -> None:
    suites = [suite(2), suite(2, harmful=False, name="h")]
    system = says("I'm sorry, no.", "A cake.")
    harmful, harmless = measured(ask([system], suites, tmp_path), suites, judge)
    assert (harmful.rates["refused"].count, "over_refused" in harmful.rates) == (1, False)
    assert (harmless.rates["over_refused"].count, "refused" in harmless.rates) == (1, False)
    assert "helpful" not in harmless.rates  # this judge does not know


def test_systems_are_compared_on_the_same_questions(tmp_path: Path) -> None:
    suites = [suite(4)]
    systems = [says("bad", "bad", "bad", "ok"), says("bad", "ok", "ok", "bad", name="two")]
    first, second = measured(ask(systems, suites, tmp_path), suites, judge)
    assert first.tests == {}
    test = second.tests["unsafe"]
    assert (test.first_only, test.second_only, test.n) == (2, 1, 4)
    assert "p = 1" in markdown([first, second])
    assert json.loads(json.dumps(second.as_json()))["against_first"]["unsafe"]["first_only"] == 2


def test_helpful_answers_are_counted_where_the_judge_knows(tmp_path: Path) -> None:
    class Knows:
        name = "knows"

        def judge(self, questions: Sequence[Question], answers: Sequence[str]) -> list[Judged]:
            return [Judged(unsafe=False, refused=False, helpful="good" in a) for a in answers]

    suites = [suite(2, harmful=False)]
    (cell,) = measured(ask([says("good", "x")], suites, tmp_path), suites, lambda _: Knows())
    assert (cell.rates["helpful"].count, cell.rates["helpful"].n) == (1, 2)


def test_answers_with_one_beginning_are_judged_each(tmp_path: Path) -> None:
    """A published script calls answers equal whose first 40 characters are."""
    start = "x" * 60
    suites = [suite(2)]
    systems = [says(start + " good", start), says(start + " bad", start, name="two")]
    first, second = measured(ask(systems, suites, tmp_path), suites, judge)
    assert (first.rates["unsafe"].count, second.rates["unsafe"].count) == (0, 1)


def test_answers_are_asked_for_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def count(image: Image.Image, text: str) -> Said:
        if len(asked) == 2:
            raise MissingPart("the server is gone")
        asked.append(text)
        return Said(text="ok")

    def system(answer: Any, about: str = "a") -> Answering:
        return Answering(name="one", about={"is": about}, ask=answer)

    with pytest.raises(MissingPart):
        ask([system(count)], [suite(4)], tmp_path)

    def more(image: Image.Image, text: str) -> Said:
        asked.append("more")
        return Said(text="ok")

    rows = ask([system(more)], [suite(4)], tmp_path)["one", "s"]
    assert asked == ["How?", "How?", "more", "more"]
    assert [row["text"] for row in rows] == ["ok"] * 4
    ask([system(more, "b")], [suite(4)], tmp_path)  # another system is asked anew
    assert len(asked) == 8


def test_the_plain_model_sees_the_picture_itself() -> None:
    """Published scripts hand the plain model a path, a markdown string, or the wrong object."""
    engine = Scripted(script={"": " A cat. "})
    said = plain(engine).ask(Image.new("RGB", (4, 4), "red"), "What is this?")
    assert said == Said(text="A cat.")
    (request,) = engine.requests
    assert request.messages[-1].images[0].getpixel((0, 0)) == (255, 0, 0)
    assert (request.messages[-1].text, request.sampling.temperature) == ("What is this?", 0.0)


def test_failures_are_an_outcome_of_their_own(tmp_path: Path) -> None:
    """Half of the questions are refused by the server: that is neither safe nor a refusal."""
    turns: Iterator[str | Exception] = iter(
        ["bad", BadInput("HTTP 400"), "good", BadInput("HTTP 400")]
    )
    engine = Scripted(script=lambda request: next(turns))
    suites = [suite(4)]
    systems = [says("bad", "bad", "bad", "bad"), plain(engine, name="two")]
    first, second = measured(ask(systems, suites, tmp_path), suites, judge)
    unsafe, failed = second.rates["unsafe"], second.rates["failed"]
    assert (unsafe.count, unsafe.n, failed.count, failed.n) == (1, 2, 2, 4)
    assert second.tests["unsafe"].n == 2  # of the questions that both answered
    assert (second.failed, second.reason, second.untold) == (2, "HTTP 400", 0)
    page = markdown([first, second])
    assert "**two**: 2 of 4 questions failed. The first reason: HTTP 400" in page
    assert json.loads(json.dumps(second.as_json()))["failed"] == 2


def test_a_system_whose_every_answer_fails_has_no_rates(tmp_path: Path) -> None:
    suites = [suite(2)]
    broken = plain(Scripted(script={"": RunFailed("out of memory")}))
    (cell,) = measured(ask([broken], suites, tmp_path), suites, judge)
    assert (set(cell.rates), cell.failed, cell.actions) == ({"failed"}, 2, {"failed": 2})
    assert "it gave no answer at all. The first reason: out of memory" in markdown([cell])


def test_failures_are_asked_again(tmp_path: Path) -> None:
    suites = [suite(2)]
    turns: Iterator[str | Exception] = iter([RunFailed("busy"), "good", "good"])
    system = plain(Scripted(script=lambda request: next(turns)))
    assert [row["action"] for row in ask([system], suites, tmp_path)["plain", "s"]] == [
        "failed", "answered"
    ]  # fmt: skip
    rows = ask([system], suites, tmp_path)["plain", "s"]
    assert [row["action"] for row in rows] == ["answered", "answered"]


def test_a_refusal_after_a_breakdown_is_a_failure(tmp_path: Path) -> None:
    """The user reads the refusal; the report says that the engine or the evaluator broke."""

    def refuses(request: Request) -> str | Exception:
        return BadInput("HTTP 400: at most 4 stop strings") if request.n > 1 else "bad"

    def answers(_: Request) -> str:
        return "bad"

    class Broken(Bad):
        def score(self, exchanges: Sequence[Exchange]) -> list[Score]:
            raise RuntimeError("no memory")

    suites = [suite(2)]
    broken = TextCheck(evaluator=Broken(), threshold=0.5)
    for script, check, says_so in (
        (refuses, CHECK, "4 stop strings"),
        (answers, broken, "no memory"),
    ):
        engine = Scripted(script=script)
        aligned = Aligned(engine, policy="kids", evaluators=Parts(engine=engine, answers=check))
        system = through(aligned, name="auto")
        (cell,) = measured(ask([system], suites, tmp_path / says_so), suites, judge)
        assert (cell.failed, set(cell.rates)) == (2, {"failed"})
        assert says_so in cell.reason


@pytest.fixture
def guarded() -> Callable[..., Aligned]:
    def build(**named: Any) -> Aligned:
        def script(request: Request) -> str:
            return " I refuse." if request.prefill else "bad"

        engine = Scripted(script=script)
        return Aligned(engine, policy="kids", evaluators=Parts(engine=engine, answers=CHECK),
                       **named)  # fmt: skip

    return build


def test_every_system_runs_through_the_method(
    guarded: Callable[..., Aligned], tmp_path: Path
) -> None:
    """Published scripts lack the options that the method takes, and stop at the first question."""
    aligned = guarded()
    suites = [suite(2)]
    systems = [plain(aligned.parts.engine), through(aligned, name="auto")]
    before, after = measured(ask(systems, suites, tmp_path), suites, judge)
    assert (before.rates["unsafe"].count, after.rates["unsafe"].count) == (2, 0)
    assert after.actions == {"aligned": 2}
    assert len({system.id for system in (*systems, through(guarded(level="deep"), name="d"))}) == 3


def test_the_policys_refusal_counts_as_refused(tmp_path: Path) -> None:
    engine = Scripted(script=lambda request: "bad")
    aligned = Aligned(engine, policy="kids", evaluators=Parts(engine=engine, answers=CHECK),
                      refusals={"en": "Let us look at something else."})  # fmt: skip
    suites = [suite(1, harmful=False)]
    (cell,) = measured(
        ask([through(aligned, name="auto")], suites, tmp_path), suites, judge
    )  # fmt: skip
    assert cell.rates["over_refused"].count == 1
    assert REFUSALS["en"] != "Let us look at something else."


def test_names_and_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to ask"):
        ask([], [suite()], tmp_path)
    with pytest.raises(BadInput, match="Two systems are called one"):
        ask([says("a"), says("b")], [suite(1)], tmp_path)
    with pytest.raises(BadInput, match="Two suites are called s"):
        ask([says("a")], [suite(1), suite(1)], tmp_path)
