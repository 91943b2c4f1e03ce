"""A server that speaks the OpenAI protocol as an engine of alignment.

Pictures are sent as content, never as addresses, so the server sees what was judged. Where a
server lacks an ability it is emulated, and the reply has a note that says so: a beginning that
cannot be given is asked for in words, and sentences are cut here. What the server does is tried
at the first answer that begins in a given way, not taken on trust.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tadasu.alignment.engine import Abilities, Continuation, Finish, Message, Reply, Request
from tadasu.alignment.sentences import is_dense, sentence_end
from tadasu.backends.openai import probe
from tadasu.backends.openai.client import key_for, left, opened, refused, within
from tadasu.backends.openai.dialect import DIALECTS, Dialect, Name, calm, recognised
from tadasu.errors import BadInput, MissingPart, RunFailed, TadasuError, UnknownName, shown

if TYPE_CHECKING:
    from PIL.Image import Image

SECONDS = 120.0
MAX_PARTS = 8
TOLD = 20
"""How many likely tokens a server is asked for; OpenAI tells no more."""
BROKEN_UP = "The text contained control tokens of common models; they were broken up with a space."
NO_PREFILL = "The server takes no prefill: the beginning was asked for in words."
NO_TOP_K = "The server takes no top_k: draws were made from all tokens."
NO_N = "The server gave fewer candidates than were asked for; the rest was asked for one by one."
SAME = (
    "The server gave the same candidate for every draw of one request; the others were asked for "
    "one by one, each with its own seed."
)
GO_ON = (
    "Your answer has already begun. Write only what follows these words, without repeating them: "
)


class OpenAIEngine:
    """A vision-language model behind a server.

    Args:
        address: of the API, for example ``http://localhost:8000/v1``.
        model: its name at the server; None for the only one that the server has.
        api_key: None for the environment variable ``OPENAI_API_KEY`` where the address is on the
            host of ``OPENAI_BASE_URL``, else an empty key.
        dialect: ``"vllm"``, ``"sglang"``, ``"llama.cpp"``, ``"openai"``; None asks the server who
            it is, and tries what it does with a beginning.
        timeout: seconds for one request, everything included, unless the request says fewer.

    Raises:
        BadInput: the server has several models and none was named.
        MissingPart: the extra ``openai`` is not installed, or the server is not reachable.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        dialect: Name | None = None,
        timeout: float = SECONDS,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingPart.extra("speaking to a model server", "openai") from error
        self._openai: Any = openai
        self.address, self._timeout = address, timeout
        self._client: Any = opened(openai, address, key=key_for(address, api_key), timeout=timeout)
        self._lock, self._alone = threading.Lock(), False
        self._tried = dialect is not None
        if dialect is not None and dialect not in DIALECTS:
            raise UnknownName("dialect", dialect, tuple(DIALECTS))
        self._dialect = DIALECTS[dialect or "openai"]
        if model is None or dialect is None:
            found = self._listed(required=model is None)
            model = model or _only(found, address)
            if dialect is None:
                named = [each for each in found if each.id == model] or found
                self._dialect = recognised([str(each.owned_by) for each in named])
        self.model: str = model

    def _listed(self, *, required: bool) -> list[Any]:
        """The server's list of models; a named model does not need it."""
        try:
            with self._reported():
                return list(
                    within(self._timeout, self.address, lambda: self._client.models.list().data)
                    or ()
                )
        except (RunFailed, BadInput):
            if required:
                raise
        except MissingPart as error:
            if required or not isinstance(error.__cause__, self._openai.APIStatusError):
                raise
        return []

    @property
    def dialect(self) -> Dialect:
        """What the server does; tried once, before it is first needed."""
        with self._lock:
            if not self._tried:
                self._dialect = probe.tried(self._dialect, self._probe)
                self._tried = True
            return self._dialect

    def _probe(self, prefill: str, asks: Mapping[str, Any], tokens: int) -> tuple[int, str]:
        """Asks with a beginning; gives the tokens read, 0 where it is not said, and the text."""
        said: list[dict[str, Any]] = [{"role": "user", "content": [_part("Name a fruit.")]}]
        if prefill:
            said.append({"role": "assistant", "content": [_part(prefill)]})
        end = time.monotonic() + self._timeout
        reply = self._create(
            end, messages=said, max_completion_tokens=tokens, temperature=0.0,
            extra_body=dict(asks) if prefill else {},
        )  # fmt: skip
        choices = reply.choices or []
        text = (choices[0].message.content or "") if choices else ""
        return (reply.usage.prompt_tokens if reply.usage else 0), text

    @property
    def name(self) -> str:
        """The address with the name of the model."""
        return f"{self.address}#{self.model}"

    @property
    def abilities(self) -> Abilities:
        """Prefill where the server was found to have it, stops where it keeps them."""
        dialect = self.dialect
        return Abilities(n=not self._alone, prefill=dialect.prefill, stop=bool(dialect.stops))

    def generate(self, request: Request) -> Reply:
        """Continues a conversation in ``request.n`` ways.

        Raises:
            BadInput: the server refuses the conversation, for example by its length.
            MissingPart: the server is not reachable.
            RunFailed: the server failed, or did not answer in time.
        """
        end = time.monotonic() + min(self._timeout, request.timeout or self._timeout)
        notes = self._notes(request)
        made, read = self._candidates(request, end, notes)
        finished = []
        for each in made[: request.n]:
            whole, again = self._completed(request, each, end)
            finished.append(whole)
            read += again
        return Reply(continuations=tuple(finished), prompt_tokens=read, notes=tuple(notes))

    def _candidates(
        self, request: Request, end: float, notes: list[str]
    ) -> tuple[list[Continuation], int]:
        """As many continuations as were asked for, different where they are drawn.

        Some servers ignore ``n``, some refuse more than they have room for, and some draw every
        candidate from the one seed; then the rest is asked for one by one, each with its own.
        """
        made, read = self._first(request, end)
        drawn = request.n > 1 and request.sampling.temperature > 0
        if drawn and len(made) == request.n and len({each.text for each in made}) == 1:
            note, made = SAME, made[:1]
        else:
            note = NO_N
        missing = len(made) < request.n
        while len(made) < request.n:
            more, again = self._call(_reseeded(request, len(made)), request.prefill, 1, end)
            made, read = [*made, *more[:1]], read + again
        sure = note == SAME and len({each.text for each in made}) == 1  # the model, not the server
        if missing and not sure:
            notes.append(note)
            self._alone = True
        return made[: request.n], read

    def _first(self, request: Request, end: float) -> tuple[list[Continuation], int]:
        many = 1 if self._alone else request.n
        try:
            return self._call(request, request.prefill, many, end)
        except BadInput:
            if many == 1:
                raise
            return self._call(request, request.prefill, 1, end)

    def first_token(self, request: Request) -> dict[str, float]:
        """How likely the first token of an answer is: the 20 likeliest with their probability.

        Raises:
            BadInput: the server refuses the conversation, or to tell so many.
            MissingPart: the server is not reachable.
            RunFailed: the server failed, did not answer in time, or tells no probabilities.
        """
        reply = self._create(
            time.monotonic() + min(self._timeout, request.timeout or self._timeout),
            messages=self._messages(request.messages, request.prefill),
            temperature=0.0,
            max_completion_tokens=1,
            logprobs=True,
            top_logprobs=TOLD,
            **(self._spoken(request).parameters(request)),
        )
        told = reply.choices[0].logprobs if reply.choices else None
        if told is None or not told.content:
            raise RunFailed(f"{self.name} tells no probabilities of tokens (logprobs).")
        found: dict[str, float] = {}
        for each in told.content[0].top_logprobs:
            found[each.token] = found.get(each.token, 0.0) + math.exp(each.logprob)
        return found

    def _spoken(self, request: Request) -> Dialect:
        """The dialect; without a beginning nothing has to be tried."""
        return self.dialect if request.prefill else self._dialect

    def _create(self, end: float, **asked: Any) -> Any:
        """One call, held to its time."""
        seconds = left(end, self.name)
        with self._reported():
            return within(
                seconds,
                self.name,
                lambda: self._client.chat.completions.create(
                    model=self.model, timeout=seconds, **asked
                ),
            )

    def _notes(self, request: Request) -> list[str]:
        notes = []
        if any(calm(message.text) != message.text for message in request.messages):
            notes.append(BROKEN_UP)
        dialect = self._spoken(request)
        if request.prefill and not dialect.prefill:
            notes.append(NO_PREFILL)
        if request.sampling.top_k and not dialect.top_k:
            notes.append(NO_TOP_K)
        return notes

    def _completed(
        self, request: Request, made: Continuation, end: float
    ) -> tuple[Continuation, int]:
        """A continuation that stopped inside a sentence, for example after "e.g.", goes on."""
        read = 0
        for _ in range(MAX_PARTS):
            if made.finish != "sentence" or _cut(made.text, request, finished=False) is not None:
                break
            left = request.max_tokens - made.tokens
            if left < 1:
                return _finished(made, made.text, "length", 0), read
            prefill = request.prefill + made.text
            more, again = self._call(request, prefill, 1, end, max_tokens=left)
            read += again
            made = _finished(made, made.text + more[0].text, more[0].finish, more[0].tokens)
        cut = _cut(made.text, request, finished=made.finish == "end")
        if cut is not None and cut < len(made.text):
            made = _finished(made, made.text[:cut], "sentence", 0)
        return made, read

    def _call(
        self,
        request: Request,
        prefill: str,
        n: int,
        end: float,
        *,
        max_tokens: int | None = None,
    ) -> tuple[list[Continuation], int]:
        """One request to the server, and how many tokens it read."""
        sampling = request.sampling
        given = dataclasses.replace(request, prefill=prefill)
        reply = self._create(
            end,
            messages=self._messages(request.messages, prefill),
            n=n,
            temperature=sampling.temperature,
            max_completion_tokens=max_tokens or request.max_tokens,
            **({} if sampling.seed is None else {"seed": sampling.seed}),
            **self._spoken(given).parameters(given),
        )
        choices = reply.choices or []
        if not choices:
            raise RunFailed(f"{self.name} gave no answer.")
        usage = reply.usage
        tokens = (usage.completion_tokens if usage else 0) // len(choices)
        made = [self._continuation(request, prefill, choice, tokens) for choice in choices]
        return made, usage.prompt_tokens if usage else 0

    def _continuation(
        self, request: Request, prefill: str, choice: Any, tokens: int
    ) -> Continuation:
        dialect = self._spoken(dataclasses.replace(request, prefill=prefill))
        text = dialect.text(choice)
        if prefill and not dialect.prefill:
            text = _without(text, prefill)
        elif dialect.echoes:
            text = text.removeprefix(prefill)
        if request.until == "end":
            finish: Finish = "length" if choice.finish_reason == "length" else "end"
            return Continuation(text=text, finish=finish, tokens=tokens)
        if dialect.stops:
            ended = dialect.ended(choice, text)
            stopped: Finish = "length" if choice.finish_reason == "length" else "sentence"
            return Continuation(text=text, finish="end" if ended else stopped, tokens=tokens)
        finish = "length" if choice.finish_reason == "length" else "end"
        cut = _cut(text, request, finished=finish == "end")
        if cut is not None and (cut < len(text) or finish == "length"):
            text, finish = text[:cut], "sentence"
        return Continuation(text=text, finish=finish, tokens=tokens)

    def _messages(self, messages: tuple[Message, ...], prefill: str) -> list[dict[str, Any]]:
        """Messages as the protocol takes them."""
        found: list[dict[str, Any]] = [
            {
                "role": message.role,
                "content": [
                    *({"type": "image_url", "image_url": {"url": _uri(image)}}
                      for image in message.images),
                    *([_part(calm(message.text))] if message.text else []),
                ],
            }
            for message in messages
        ]  # fmt: skip
        if prefill and self.dialect.prefill:
            found.append({"role": "assistant", "content": [_part(prefill)]})
        elif prefill:
            found.insert(0, {"role": "system", "content": [_part(GO_ON + prefill)]})
        return found

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turns the client's complaints into the library's."""
        client = self._openai
        try:
            yield
        except TadasuError:
            raise
        except client.APITimeoutError as error:
            raise RunFailed(f"{self.address} did not finish within its time.") from error
        except client.APIConnectionError as error:
            raise MissingPart(f"{self.address} is not reachable: {error}") from error
        except (client.AuthenticationError, client.PermissionDeniedError) as error:
            raise refused(self.address, error.status_code) from error
        except client.NotFoundError as error:
            raise MissingPart(f"{self.address} does not have this model or path.") from error
        except (client.BadRequestError, client.UnprocessableEntityError) as error:
            said = shown(" ".join(str(error).split()), 300)
            raise BadInput(f"{self.address} refuses the conversation: {said}") from error
        except Exception as error:  # a server may answer anything; nothing is hidden
            said = shown(" ".join(str(error).split()), 300)
            raise RunFailed(f"{self.address} failed: {type(error).__name__}: {said}") from error


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _reseeded(request: Request, place: int) -> Request:
    """A request for one more candidate, drawn otherwise than the ones before."""
    seed = request.sampling.seed
    if seed is None:
        return request
    sampling = dataclasses.replace(request.sampling, seed=seed + 1_000_003 * place)
    return dataclasses.replace(request, sampling=sampling)


def _only(found: list[Any], address: str) -> str:
    names = [str(each.id) for each in found]
    if len(names) != 1:
        listing = ", ".join(names[:20]) or "none"
        raise BadInput(
            f"{address} has {len(names)} models ({listing}); name one behind a #, as in "
            f"{address}#MODEL."
        )
    return names[0]


def _cut(text: str, request: Request, *, finished: bool) -> int | None:
    """The place behind which a text is cut; None where it goes on."""
    if request.until == "sentence":
        return sentence_end(text, finished=finished)
    if request.until == "full stop" and "." in text:
        return text.index(".") + 1
    return None


def _finished(made: Continuation, text: str, finish: Finish, tokens: int) -> Continuation:
    return Continuation(text=text, finish=finish, tokens=made.tokens + tokens)


def _without(text: str, prefill: str) -> str:
    """An emulated continuation: without the beginning that it may repeat, with a space."""
    stripped = text.strip()
    if stripped.startswith(prefill.strip()):
        return stripped[len(prefill.strip()) :]
    ends, begins = prefill[-1:], stripped[:1]
    joined = ends in " \n" or begins in ",.;:!?、。" or is_dense(ends) or is_dense(begins)
    return stripped if joined or not stripped else f" {stripped}"


def _uri(image: Image) -> str:
    """A picture as a ``data:`` address of its PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
