"""The real client against a small image server: pictures, refusals, failures, traps."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from tadasu.backends.openai.fetch import fetch, is_public
from tadasu.backends.openai.images import ImageServer
from tadasu.errors import BadInput, MissingPart, RunFailed
from tadasu.evaluation.remote import Remote
from tadasu.evaluation.target import Outcome, Request, Target


def png() -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (3, 2), "red").save(file, format="PNG")
        return file.getvalue()


PICTURE = base64.b64encode(png()).decode()
FINE = (200, {"created": 1, "data": [{"b64_json": PICTURE, "revised_prompt": "a red thing"}]})


class Script:
    """What the server answers, in turn; the last answer stays."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = [FINE]
        self.bodies: list[dict[str, Any]] = []
        self.fetched: list[str] = []
        self.address = ""
        self.over = threading.Event()

    def next(self) -> tuple[int, Any]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def script() -> Iterator[Script]:
    told = Script()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def _send(self, status: int, data: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            told.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            status, body = told.next()
            if status == -1:  # never answer
                told.over.wait()
                return
            if status == 0:  # hang up without an answer
                self.connection.close()
                return
            self._send(status, json.dumps(body).encode(), **{"content-type": "application/json"})

        def do_GET(self) -> None:
            told.fetched.append(self.path)
            if self.path == "/moved":
                self._send(302, b"", location="/picture")
                return
            self._send(200, png() if self.path.startswith("/picture") else b"x" * 5000)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield told
    told.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def made(script: Script, **more: Any) -> tuple[ImageServer, list[float]]:
    waits: list[float] = []
    given: dict[str, Any] = {"model": "m", "api_key": "k", "timeout": 5.0, "wait": waits.append}
    return ImageServer(script.address, **(given | more)), waits


def blocked(code: str, message: str = "no", **more: Any) -> tuple[int, Any]:
    return 400, {"error": {"message": message, "type": "x", "code": code, **more}}


def test_a_picture_comes_back_with_what_the_server_said(script: Script) -> None:
    server, _ = made(script, size="1024x1024", extra={"quality": "low"}, seeded=True)
    drawn = server.draw("a cat", seed=7)
    assert drawn.outcome == "image"
    assert drawn.image is not None
    assert (drawn.image.size, drawn.image.mode) == ((3, 2), "RGB")
    assert drawn.details == {"attempts": 1, "revised_prompt": "a red thing"}
    wanted = {"prompt": "a cat", "model": "m", "n": 1, "size": "1024x1024", "quality": "low"}
    assert script.bodies == [{**wanted, "seed": 7}]


def test_the_seed_is_not_sent_to_servers_that_do_not_take_it(script: Script) -> None:
    made(script)[0].draw("a cat", seed=7)
    assert script.bodies == [{"prompt": "a cat", "model": "m", "n": 1}]


@pytest.mark.parametrize(
    "answer",
    [
        blocked("moderation_blocked", "rejected by the safety system safety_violations=[violence]"),
        blocked("content_policy_violation"),
        blocked("image_content_policy_violation"),
        blocked("contentFilter"),
        blocked("other", innererror={"code": "ResponsibleAIPolicyViolation"}),
        (403, {"error": {"message": "no", "code": "content_policy_violation"}}),
        (200, {"created": 1, "data": [{"url": "", "respect_moderation": False}]}),
    ],
)
def test_a_refusal_is_blocked_and_asked_once(script: Script, answer: tuple[int, Any]) -> None:
    script.answers = [answer]
    server, waits = made(script)
    drawn = server.draw("a pistol")
    assert drawn.outcome == "blocked"
    assert drawn.image is None
    assert len(script.bodies) == 1
    assert waits == []


def test_stage_and_categories_of_a_refusal_are_kept(script: Script) -> None:
    script.answers = [
        blocked(
            "moderation_blocked",
            moderation_details={"categories": ["violence"], "moderation_stage": "output"},
        )
    ]
    drawn = made(script)[0].draw("a pistol")
    assert (drawn.stage, drawn.details["categories"]) == ("output", ["violence"])
    script.answers = [blocked("moderation_blocked", "x safety_violations=[sexual, violence].")]
    assert made(script)[0].draw("a").details["categories"] == ["sexual", "violence"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 0])
def test_what_may_pass_is_tried_again_with_bounds(script: Script, status: int) -> None:
    script.answers = [(status, {"error": {"message": "busy"}})]
    server, waits = made(script, attempts=3)
    drawn = server.draw("a cat")
    assert drawn.outcome == "error"
    assert "after 3 attempts" in drawn.reason
    assert len(script.bodies) == 3
    assert waits == [0.5, 1.0]
    script.answers = [(status, {}), FINE]
    drawn = server.draw("a cat")
    assert (drawn.outcome, drawn.details["attempts"]) == ("image", 2)


def test_a_timeout_is_an_error_and_never_a_picture(script: Script) -> None:
    script.answers = [(-1, None)]
    server, waits = made(script, attempts=2, timeout=0.2)
    assert server.draw("a cat").outcome == "error"
    assert len(waits) == 1


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"created": 1, "data": []}),
        (200, {"created": 1, "data": [{}]}),
        (200, {"created": 1, "data": [{"b64_json": "not base64!"}]}),
        (200, {"created": 1, "data": [{"b64_json": base64.b64encode(b"no picture").decode()}]}),
        (400, {"error": {"message": "size must be a multiple of 16", "code": "bad_size"}}),
    ],
)
def test_answers_without_a_picture_are_errors(script: Script, answer: tuple[int, Any]) -> None:
    script.answers = [answer]
    server, waits = made(script)
    drawn = server.draw("a cat")
    assert drawn.outcome == "error"
    assert drawn.reason
    assert waits == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_model_ends_the_run(script: Script, status: int) -> None:
    script.answers = [(status, {"error": {"message": "no such thing"}})]
    with pytest.raises(MissingPart, match="no such thing"):
        made(script)[0].draw("a cat")


def test_a_picture_at_the_servers_own_address_is_fetched(script: Script) -> None:
    home = script.address.removesuffix("/v1")
    script.answers = [(200, {"created": 1, "data": [{"url": f"{home}/picture.png?x=1"}]})]
    drawn = made(script)[0].draw("a cat")
    assert drawn.outcome == "image"
    assert script.fetched == ["/picture.png?x=1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.png",
        "http://[::1]/x.png",
        "http://[::ffff:127.0.0.1]/x.png",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/x.png",
        "http://0.0.0.0/x.png",
        "http://2130706433/x.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://user@127.0.0.1/x.png",
        "http://[broken/x.png",
    ],
)
def test_private_addresses_are_refused(script: Script, url: str) -> None:
    with pytest.raises(BadInput):
        fetch(url, server=script.address)
    script.answers = [(200, {"created": 1, "data": [{"url": url}]})]
    drawn = made(script)[0].draw("a cat")
    assert drawn.outcome == "error"
    assert script.fetched == []


def test_redirects_and_endless_files_are_refused(script: Script) -> None:
    home = script.address.removesuffix("/v1")
    with pytest.raises(RunFailed, match="redirects"):
        fetch(f"{home}/moved", server=script.address)
    assert script.fetched == ["/moved"]
    with pytest.raises(RunFailed, match="more than 100 bytes"):
        fetch(f"{home}/large", server=script.address, limit=100)


def test_which_addresses_are_public() -> None:
    assert is_public("8.8.8.8")
    assert is_public("2606:4700::1111")
    hidden = ("64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0", "224.0.0.1", "100.64.0.1")
    assert not any(is_public(address) for address in hidden)


def test_it_is_a_target_whose_refusals_and_failures_are_outcomes(script: Script) -> None:
    script.answers = [FINE, blocked("moderation_blocked"), (500, {}), FINE]
    target = Remote(made(script, attempts=1)[0])
    assert isinstance(target, Target)
    with target.opened():
        answers = target.generate([Request(text=text) for text in ("a", "b", "c")])
    assert [a.outcome for a in answers] == [Outcome.IMAGE, Outcome.BLOCKED, Outcome.ERROR]
    assert all(answer.seconds > 0 for answer in answers)
    assert target.name == "m"
    other = Remote(made(script, size="512x512")[0])
    assert target.id != other.id


def test_credentials_in_the_address_are_not_recorded(script: Script) -> None:
    server, _ = made(script)
    server.address = "https://somebody:secret@example.org/v1"
    assert "secret" not in json.dumps(dict(Remote(server).about))


def test_bounds_are_checked() -> None:
    with pytest.raises(BadInput, match="attempts"):
        ImageServer("http://localhost/v1", model="m", attempts=11)
