"""The client for servers of the OpenAI protocol, held to its time, its size and its address.

A server may be slow, broken or not what it says. The time of a call is the time until its whole
answer is there, however it trickles; a reply is read up to a bound; redirects are not followed;
and the environment's key goes only to the server that it was set for.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from tadasu.errors import MissingPart, RunFailed, shown

MAX_BYTES = 16 * 1024 * 1024
"""Of a reply; an answer of 4,096 tokens with the 20 likeliest of each has about 8 MB."""
OPENAI = "https://api.openai.com/v1"


def key_for(address: str, given: str | None) -> str:
    """The key that a server gets: what was given, or the environment's where it is its server.

    ``OPENAI_API_KEY`` belongs to the host of ``OPENAI_BASE_URL``, which is OpenAI's own where it
    is not set.

    >>> key_for("http://localhost:8000/v1", "mine")
    'mine'
    """
    own = os.environ.get("OPENAI_BASE_URL") or OPENAI
    if given is None and _place(own) == _place(address):
        given = os.environ.get("OPENAI_API_KEY")
    return given or "none"


def refused(address: str, status: int) -> MissingPart:
    """The error for a server that refuses the key."""
    return MissingPart(
        f"{shown(address, 300)} refuses the key ({status}). OPENAI_API_KEY is sent only to the "
        "host of OPENAI_BASE_URL (OpenAI's own where it is not set): set both, or pass api_key."
    )


def opened(openai: Any, address: str, *, key: str, timeout: float, limit: int = MAX_BYTES) -> Any:
    """A client that follows no redirect, reads at most ``limit`` bytes and tries nothing again.

    Args:
        openai: the package.
        address: of the API.
        key: what it gets.
        timeout: seconds for one wait; the time of a whole call is held by `within`.
        limit: bytes of a reply.
    """
    made = openai.OpenAI(
        base_url=address,
        api_key=key,
        timeout=timeout,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(
            follow_redirects=False, transport=_bounded(openai, limit)
        ),
        default_headers={"Accept-Encoding": "identity"},
    )
    if _place(address) != _place(OPENAI):  # these name an account at OpenAI
        made.organization = made.project = None
    return made


def within(seconds: float, name: str, call: Callable[[], Any]) -> Any:
    """What a call gives, if it gives it in time; a call that does not is left to itself.

    Args:
        seconds: of wall time, for everything.
        name: of the server, for the message.
        call: what is done.

    Raises:
        RunFailed: the time is over.
    """
    done: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            done.append((call(), None))
        except BaseException as error:  # it is raised again where it was asked for
            done.append((None, error))

    thread = threading.Thread(target=run, daemon=True, name="tadasu-call")
    thread.start()
    thread.join(max(0.0, seconds))
    if not done:
        raise RunFailed(f"{name} did not finish within its time.")
    found, error = done[0]
    if error is not None:
        raise error
    return found


def _place(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    return parts.scheme, (parts.hostname or "").lower(), parts.port


def _bounded(openai: Any, limit: int) -> Any:
    """A transport whose replies end with an error behind the bound."""
    package = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    http: Any = importlib.import_module(package)

    class Stream(http.SyncByteStream):  # type: ignore[misc]
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __iter__(self) -> Iterator[bytes]:
            read = 0
            for chunk in self._inner:
                read += len(chunk)
                if read > limit:
                    raise RunFailed(f"The server's reply is over {limit:,} bytes.")
                yield chunk

        def close(self) -> None:
            self._inner.close()

    class Transport(http.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            reply = super().handle_request(request)
            coded = reply.headers.get("content-encoding", "identity")
            if coded != "identity":
                reply.close()
                raise RunFailed(f"The server packs its replies ({coded}), which was not asked for.")
            reply.stream = Stream(reply.stream)
            return reply

    return Transport()


def left(end: float, name: str) -> float:
    """Seconds until a moment of `time.monotonic`.

    Raises:
        RunFailed: it is over.
    """
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise RunFailed(f"{name} did not finish within its time.")
    return seconds
