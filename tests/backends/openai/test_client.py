"""A server that is slow, endless or elsewhere: the call ends in time, and the key stays here."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tadasu.alignment.engine import Message, Request
from tadasu.backends.openai.client import MAX_BYTES, key_for
from tadasu.backends.openai.engine import OpenAIEngine
from tadasu.errors import RunFailed

ASK = Request(messages=(Message(text="What is this?"),), timeout=1.0)
Behave = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Behave], tuple[str, list[Any]]]]:
    running: list[ThreadingHTTPServer] = []

    def start(behave: Behave) -> tuple[str, list[Any]]:
        seen: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append(self.headers)
                with contextlib.suppress(OSError):  # the client goes away, as it should
                    behave(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Stay quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1", seen

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


def engine(address: str, **named: Any) -> OpenAIEngine:
    return OpenAIEngine(address, model="tiny", dialect="openai", **named)


def _begin(handler: BaseHTTPRequestHandler, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def trickles(handler: BaseHTTPRequestHandler) -> None:
    _begin(handler, 1000)
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.2)


def trickles_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for i in range(40):
        handler.wfile.write(f"X-{i}: y\r\n".encode())
        handler.wfile.flush()
        time.sleep(0.2)


def wants_waiting(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(429)
    handler.send_header("Retry-After", "40")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize("behave", [trickles, trickles_headers, wants_waiting])
def test_the_deadline_is_of_the_whole_answer(behave: Behave, serve: Any) -> None:
    address, seen = serve(behave)
    ready = engine(address)
    began = time.monotonic()
    with pytest.raises(RunFailed):
        ready.generate(ASK)
    assert time.monotonic() - began < 2.0
    assert len(seen) == 1


def test_replies_are_bounded(serve: Any) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        _begin(handler, 3 * MAX_BYTES)
        for _ in range(3 * MAX_BYTES // 65536):
            handler.wfile.write(b" " * 65536)

    address, _ = serve(endless)
    with pytest.raises(RunFailed, match="over 16,777,216 bytes"):
        engine(address).generate(Request(messages=ASK.messages, timeout=60.0))


def test_redirects_are_not_followed(serve: Any) -> None:
    def answers(handler: BaseHTTPRequestHandler) -> None:
        said = json.dumps({"choices": []}).encode()
        _begin(handler, len(said))
        handler.wfile.write(said)

    elsewhere, reached = serve(answers)

    def redirects(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"{elsewhere}/chat/completions")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    address, _ = serve(redirects)
    with pytest.raises(RunFailed):
        engine(address, api_key="secret").generate(ASK)
    assert reached == []


def test_the_key_of_the_environment_goes_to_its_own_server(
    monkeypatch: pytest.MonkeyPatch, serve: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert key_for("https://api.openai.com/v1", None) == "secret"
    for other in ("http://api.openai.com/v1", "https://api.openai.com.evil.net/v1"):
        assert key_for(other, None) == "none"
    address, seen = serve(wants_waiting)
    with pytest.raises(RunFailed):
        engine(address).generate(ASK)
    assert "secret" not in str(seen[0])
    assert "org-1" not in str(seen[0])
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(RunFailed):
        engine(address).generate(ASK)
    assert seen[1]["Authorization"] == "Bearer secret"
