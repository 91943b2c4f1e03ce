from __future__ import annotations

import pytest

from tadasu.alignment.engine import (
    Continuation,
    Engine,
    Message,
    Reply,
    Request,
    Sampling,
    continued,
    count,
)
from tadasu.alignment.scripted import Scripted
from tadasu.errors import BadInput, RunFailed

ASK = (Message(text="What is this?"),)


def test_the_script_is_an_engine() -> None:
    assert isinstance(Scripted(script={}), Engine)


def test_candidates_come_in_turn_and_stop_at_sentences() -> None:
    engine = Scripted(script={"No,": [" I refuse. Sorry.", " sure! Do it."]})
    reply = continued(engine, Request(messages=ASK, prefill="No,", n=3, until="sentence"))
    assert [each.text for each in reply.continuations] == [" I refuse.", " sure!", " I refuse."]
    assert {each.finish for each in reply.continuations} == {"sentence"}
    assert reply.tokens == 5
    assert engine.requests[0].n == 3


def test_the_end_and_the_length_are_told_apart() -> None:
    engine = Scripted(script={"": "One two three four."})
    assert engine.generate(Request(messages=ASK)).continuations[0].finish == "end"
    short = engine.generate(Request(messages=ASK, max_tokens=2)).continuations[0]
    assert (short.text, short.finish, short.tokens) == ("One two", "length", 2)
    last = engine.generate(Request(messages=ASK, until="sentence")).continuations[0]
    assert last.finish == "end"


def test_the_published_stop_is_any_full_stop() -> None:
    engine = Scripted(script={"": "It costs 3.5 euros! Yes."})
    assert engine.generate(Request(messages=ASK, until="full stop")).continuations[0].text == (
        "It costs 3."
    )


def test_exceptions_and_gaps_of_the_script() -> None:
    engine = Scripted(script={"": RunFailed("gone")})
    with pytest.raises(RunFailed, match="gone"):
        engine.generate(Request(messages=ASK))
    with pytest.raises(BadInput, match="says nothing after 'x'"):
        engine.generate(Request(messages=ASK, prefill="x"))
    assert (
        Scripted(script=lambda request: request.messages[-1].text)
        .generate(Request(messages=ASK))
        .continuations[0]
        .text
        == "What is this?"
    )


def test_an_engine_that_answers_too_little_is_refused() -> None:
    class Lazy(Scripted):
        def generate(self, request: Request) -> Reply:
            one = Continuation(text="x", finish="end", tokens=1)
            return Reply(continuations=(one,), prompt_tokens=1)

    with pytest.raises(RunFailed, match="gave 1 continuations; 5 were"):
        continued(Lazy(script={}), Request(messages=ASK, n=5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Request(messages=()),
        lambda: Request(messages=(Message(role="assistant", text="x"),)),
        lambda: Request(messages=ASK, n=0),
        lambda: Request(messages=ASK, max_tokens=0),
        lambda: Request(messages=ASK, until="word"),  # type: ignore[arg-type]
        lambda: Message(role="nobody", text="x"),  # type: ignore[arg-type]
        lambda: Sampling(temperature=float("nan")),
        lambda: Sampling(temperature=-1),
        lambda: Sampling(top_k=-1),
    ],
)
def test_what_no_engine_can_do_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(BadInput):
        make()


def test_tokens_are_counted() -> None:
    one = Continuation(text="x", finish="end", tokens=3)
    replies = [Reply(continuations=(one, one), prompt_tokens=5)] * 2
    assert count(replies) == {"calls": 2, "prompt_tokens": 10, "generated_tokens": 12}
