"""The real client against a small server that keeps the rules of vLLM, SGLang or neither."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from tadasu.alignment.engine import Engine, Message, Request, Sampling, continued
from tadasu.backends.openai.dialect import DIALECTS, Dialect
from tadasu.backends.openai.engine import NO_N, NO_PREFILL, NO_TOP_K, SAME, OpenAIEngine
from tadasu.errors import BadInput, MissingPart, RunFailed, UnknownName

RED = Image.new("RGB", (5, 4), "red")
ASK = (Message(role="system", text="Be brief."), Message(text="What is this?", images=(RED,)))


@dataclass
class Server:
    """A server with one script: the whole answer for each candidate."""

    dialect: str = "vllm"
    answers: tuple[str, ...] = ("It costs 3.5 euros. Buy it.",)
    models: tuple[str, ...] = ("tiny",)
    most: int = 99
    status: int = 200
    delay: float = 0.0
    drops: bool = False
    one_draw: bool = False
    lists: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        probing = body["messages"][0]["content"][0].get("text") == "Name a fruit."
        if not probing:
            self.bodies.append(body)
        time.sleep(self.delay)
        if self.status != 200:
            return self.status, {"error": {"message": "maximum context length is 10 tokens"}}
        if not self._takes(body):
            return 400, {"error": {"message": "unexpected fields, or more stop strings than 4"}}
        prefill = self._prefill(body)
        choices = [
            self._choice(i, self.answers[self._drawn(i, body)], prefill, body)
            for i in range(min(body.get("n", 1), self.most))
        ]
        read = 7 + 5 * len(body["messages"]) - (5 if prefill else 0)
        read += sum(
            len(part.get("text", "").split()) for m in body["messages"] for part in m["content"]
        )
        usage = {"prompt_tokens": read, "completion_tokens": 4 * len(choices), "total_tokens": 0}
        return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "tiny",
                     "choices": choices, "usage": usage}  # fmt: skip

    def _drawn(self, i: int, body: dict[str, Any]) -> int:
        """Which answer a candidate is; of a server with one draw, all of a request are equal."""
        return (body.get("seed", 0) if self.one_draw else i) % len(self.answers)

    def _takes(self, body: dict[str, Any]) -> bool:
        """vLLM takes four stop strings; strict servers no field of others."""
        own = {"messages", "model", "n", "seed", "temperature", "max_completion_tokens", "stop"}
        strict = self.dialect == "strict" and set(body) - own
        return not strict and len(body.get("stop", [])) <= 4

    def _prefill(self, body: dict[str, Any]) -> str:
        """The beginning that is gone on from; a closed turn where that was not asked for."""
        last = body["messages"][-1]
        goes_on = body.get("continue_final_message", False)
        if self.dialect == "vllm":
            goes_on = goes_on and not body.get("add_generation_prompt", True)
        goes_on = goes_on and self.dialect in ("vllm", "sglang") and not self.drops
        if last["role"] != "assistant" or not (goes_on or self.dialect == "llamacpp"):
            return ""
        return str(last["content"][0]["text"])

    def _choice(self, i: int, whole: str, prefill: str, body: dict[str, Any]) -> dict[str, Any]:
        text = whole[len(prefill) :] if prefill and whole.startswith(prefill) else whole
        reason: str | None = None
        keeps = body.get("include_stop_str_in_output") or body.get("no_stop_trim")
        places = [(text.index(s), s) for s in body.get("stop", []) if s in text]
        if places:
            at, reason = min(places)
            text = text[: at + len(reason) if keeps else at]
        words = text.split(" ")
        finish = "stop"
        if len(words) > body["max_completion_tokens"]:
            text, finish = " ".join(words[: body["max_completion_tokens"]]), "length"
        if self.dialect == "llamacpp":
            text = prefill + text
        found = {
            "index": i,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
        }
        if self.dialect == "vllm":
            found["stop_reason"] = reason
        if self.dialect == "sglang":
            found["matched_stop"] = reason if reason else 2
        return found


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(**named: Any) -> Server:
        server = Server(**named)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = [
                    {"id": name, "object": "model", "created": 1, "owned_by": server.dialect}
                    for name in server.models
                ]
                self._send(server.lists, {"object": "list", "data": data})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                self._send(*server.answer(json.loads(self.rfile.read(length))))

            def _send(self, status: int, content: dict[str, Any]) -> None:
                raw = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                """Stay quiet."""

        listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        running.append(listening)
        server.address = f"http://127.0.0.1:{listening.server_port}/v1"
        return server

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_the_server_is_recognised_and_gets_its_own_words(
    dialect: str, serve: Callable[..., Server]
) -> None:
    server = serve(dialect=dialect, answers=("No, I refuse. Sorry.", "No, take it. Go."))
    engine = OpenAIEngine(server.address)
    assert isinstance(engine, Engine)
    assert engine.abilities.prefill
    assert engine.dialect.name == dialect
    request = Request(
        messages=ASK,
        prefill="No,",
        n=2,
        until="sentence",
        max_tokens=20,
        sampling=Sampling(temperature=1.5, top_k=5, seed=3),
    )
    reply = continued(engine, request)
    assert [each.text for each in reply.continuations] == [" I refuse.", " take it."]
    assert {each.finish for each in reply.continuations} == {"sentence"}
    assert reply.notes == ()
    body = server.bodies[0]
    assert len(server.bodies) == 1
    assert (body["n"], body["temperature"], body["top_k"], body["seed"]) == (2, 1.5, 5, 3)
    assert body["continue_final_message"] is True
    assert body.get("add_generation_prompt", "absent") == (False if dialect == "vllm" else "absent")
    assert body["stop"] == [".", "?", "!", "\n"]
    key = "include_stop_str_in_output" if dialect == "vllm" else "no_stop_trim"
    assert body[key] is True
    assert body["max_completion_tokens"] == 20


def test_the_server_sees_the_picture_that_was_judged(serve: Callable[..., Server]) -> None:
    server = serve()
    OpenAIEngine(server.address).generate(Request(messages=ASK))
    system, user = server.bodies[0]["messages"]
    assert system == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}
    address = user["content"][0]["image_url"]["url"]
    assert address.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as seen:
        assert (seen.size, seen.getpixel((0, 0))) == ((5, 4), (255, 0, 0))


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_a_stop_inside_a_number_is_gone_on_from(dialect: str, serve: Callable[..., Server]) -> None:
    server = serve(dialect=dialect)
    request = Request(messages=ASK, until="sentence", max_tokens=20)
    found = OpenAIEngine(server.address).generate(request).continuations[0]
    assert (found.text, found.finish) == ("It costs 3.5 euros.", "sentence")
    assert [b["messages"][-1]["role"] for b in server.bodies] == ["user", "assistant"]
    assert server.bodies[1]["max_completion_tokens"] == 16  # what is left of twenty


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_the_end_of_an_answer_is_told_from_the_end_of_a_sentence(
    dialect: str, serve: Callable[..., Server]
) -> None:
    server = serve(dialect=dialect, answers=("It is a cat", "A cat. It sleeps."))
    request = Request(messages=ASK, until="sentence", n=2)
    found = OpenAIEngine(server.address).generate(request).continuations
    assert [(c.text, c.finish) for c in found] == [("It is a cat", "end"), ("A cat.", "sentence")]
    short = OpenAIEngine(server.address).generate(
        Request(messages=ASK, until="sentence", max_tokens=2)
    )
    assert short.continuations[0].finish == "length"
    whole = OpenAIEngine(server.address).generate(Request(messages=ASK, n=2))
    assert [c.text for c in whole.continuations] == ["It is a cat", "A cat. It sleeps."]


def test_a_plain_server_is_emulated_and_the_record_says_so(serve: Callable[..., Server]) -> None:
    server = serve(dialect="somebody", answers=("As an AI, I refuse. Sorry.", "I go on. x"))
    engine = OpenAIEngine(server.address)
    assert not engine.abilities.prefill
    request = Request(
        messages=ASK, prefill="As an AI,", n=2, until="sentence",
        sampling=Sampling(temperature=1.0, top_k=5),
    )  # fmt: skip
    reply = engine.generate(request)
    assert reply.notes == (NO_PREFILL, NO_TOP_K)
    assert [each.text for each in reply.continuations] == [" I refuse.", " I go on."]
    body = server.bodies[0]
    assert not {"top_k", "continue_final_message", "stop"} & set(body)
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][0]["content"][0]["text"].endswith("As an AI,")


def test_a_server_that_gives_one_candidate_is_asked_again(serve: Callable[..., Server]) -> None:
    server = serve(dialect="somebody", most=1)
    reply = OpenAIEngine(server.address).generate(Request(messages=ASK, n=3))
    assert len(reply.continuations) == 3
    assert reply.notes == (NO_N,)
    assert len(server.bodies) == 3


DRAWN = Sampling(temperature=1.0, seed=3)


def test_a_japanese_answer_stops_at_japanese_marks(serve: Callable[..., Server]) -> None:
    server = serve(answers=("AIとして、お断りします。次です。",))
    request = Request(messages=ASK, prefill="AIとして、", until="sentence")
    found = OpenAIEngine(server.address).generate(request).continuations[0]
    assert (found.text, found.finish) == ("お断りします。", "sentence")
    assert server.bodies[0]["stop"] == ["。", "？", "！", "\n"]


def test_a_japanese_beginning_gets_no_space(serve: Callable[..., Server]) -> None:
    server = serve(dialect="somebody", answers=("お断りします。次です。",))
    request = Request(messages=ASK, prefill="AIアシスタントとして", until="sentence")
    found = OpenAIEngine(server.address).generate(request).continuations[0]
    assert found.text == "お断りします。"


def test_a_dropped_field_is_noticed(serve: Callable[..., Server]) -> None:
    """A gateway before vLLM that drops the field: the beginning would become a closed turn."""
    server = serve(drops=True, answers=("I refuse. Sorry.",))
    engine = OpenAIEngine(server.address)
    reply = engine.generate(Request(messages=ASK, prefill="As an AI,", until="sentence"))
    assert not engine.abilities.prefill
    assert reply.notes == (NO_PREFILL,)
    assert "continue_final_message" not in server.bodies[0]


def test_llama_cpp_goes_on_from_the_last_message_and_repeats_it(
    serve: Callable[..., Server],
) -> None:
    server = serve(dialect="llamacpp", answers=("As an AI, I refuse. Sorry.",))
    engine = OpenAIEngine(server.address)
    reply = engine.generate(Request(messages=ASK, prefill="As an AI,", until="sentence"))
    assert engine.dialect.name == "llama.cpp"
    assert (reply.continuations[0].text, reply.notes) == (" I refuse.", ())
    assert server.bodies[0]["messages"][-1]["role"] == "assistant"


def test_a_server_that_takes_no_other_fields(serve: Callable[..., Server]) -> None:
    server = serve(dialect="strict", lists=500, answers=("I refuse. Sorry.",), most=1)
    engine = OpenAIEngine(server.address, model="tiny")
    request = Request(messages=ASK, prefill="As an AI,", n=3, until="sentence", sampling=DRAWN)
    reply = engine.generate(request)
    assert reply.notes == (NO_PREFILL, NO_N)
    assert [each.text for each in reply.continuations] == [" I refuse."] * 3
    seeds = [body["seed"] for body in server.bodies]
    assert len(set(seeds)) == 3


def test_equal_candidates_are_noticed_and_drawn_again(serve: Callable[..., Server]) -> None:
    server = serve(one_draw=True, answers=("A cat.", "A dog.", "A cow."))
    engine = OpenAIEngine(server.address)
    reply = engine.generate(Request(messages=ASK, n=3, sampling=DRAWN))
    assert reply.notes == (SAME,)
    assert len({each.text for each in reply.continuations}) > 1
    assert [body["n"] for body in server.bodies] == [3, 1, 1]
    assert len({body["seed"] for body in server.bodies}) == 3
    engine.generate(Request(messages=ASK, n=2, sampling=DRAWN))
    assert [body["n"] for body in server.bodies[3:]] == [1, 1]  # it is not asked in vain again


def test_a_model_that_is_sure_is_not_the_servers_fault(serve: Callable[..., Server]) -> None:
    engine = OpenAIEngine(serve(answers=("A cat.",)).address)
    assert engine.generate(Request(messages=ASK, n=3, sampling=DRAWN)).notes == ()
    assert engine.abilities.n


def test_a_named_model_needs_no_list(serve: Callable[..., Server]) -> None:
    server = serve(lists=500)
    reply = OpenAIEngine(server.address, model="tiny").generate(Request(messages=ASK))
    assert reply.continuations
    with pytest.raises(RunFailed, match="failed"):
        OpenAIEngine(server.address)


def test_a_named_dialect_is_not_tried(serve: Callable[..., Server]) -> None:
    server = serve(dialect="somebody")
    engine = OpenAIEngine(server.address, dialect="llama.cpp")
    assert engine.dialect == DIALECTS["llama.cpp"]
    with pytest.raises(UnknownName, match="dialect"):
        OpenAIEngine(server.address, dialect="other")  # type: ignore[arg-type]


def test_control_tokens_are_broken_up(serve: Callable[..., Server]) -> None:
    server = serve()
    text = "What is <image> <|im_end|> here?"
    reply = OpenAIEngine(server.address).generate(Request(messages=(Message(text=text),)))
    assert "control tokens" in reply.notes[0]
    said = server.bodies[0]["messages"][0]["content"][0]["text"]
    assert said == "What is < image> < |im_end|> here?"


def test_failures(serve: Callable[..., Server]) -> None:
    server = serve()
    engine = OpenAIEngine(server.address)
    for status, error, says in (
        (400, BadInput, "maximum context length"),
        (401, MissingPart, "OPENAI_API_KEY"),
        (404, MissingPart, "does not have this model"),
        (418, RunFailed, "failed"),
    ):
        server.status = status
        with pytest.raises(error, match=says):
            engine.generate(Request(messages=ASK))


def test_time_runs_out(serve: Callable[..., Server]) -> None:
    server = serve()
    engine = OpenAIEngine(server.address)
    server.delay = 0.5
    with pytest.raises(RunFailed, match="within its time"):
        engine.generate(Request(messages=ASK, timeout=0.05))


def test_a_server_that_says_nothing(serve: Callable[..., Server]) -> None:
    server = serve(most=0)
    with pytest.raises(RunFailed, match="gave no answer"):
        OpenAIEngine(server.address).generate(Request(messages=ASK))


def test_nobody_is_there() -> None:
    with pytest.raises(MissingPart, match="not reachable"):
        OpenAIEngine("http://127.0.0.1:9/v1", model="x").generate(Request(messages=ASK))


def test_the_model_must_be_clear(serve: Callable[..., Server]) -> None:
    server = serve(models=("a", "b"))
    with pytest.raises(BadInput, match=r"has 2 models \(a, b\)"):
        OpenAIEngine(server.address)
    named = OpenAIEngine(server.address, model="b")
    assert named.name == f"{server.address}#b"
    assert OpenAIEngine("http://127.0.0.1:9/v1", model="x", dialect="openai").dialect == Dialect(
        name="openai"
    )


def test_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingPart, match=r"tadasu\[openai\]"):
        OpenAIEngine("http://127.0.0.1:9/v1")
