"""A server that speaks the OpenAI protocol as an engine of alignment.

Pictures are sent as content, never as addresses, so the server sees what was judged. Where a
server lacks an ability it is emulated, and the reply has a note that says so: a beginning that
cannot be given is asked for in words, and sentences are cut here.
"""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tadasu.alignment.engine import Abilities, Continuation, Finish, Message, Reply, Request
from tadasu.alignment.sentences import sentence_end
from tadasu.backends.openai.dialect import Dialect, Name, calm, recognised
from tadasu.errors import BadInput, MissingPart, RunFailed, TadasuError, shown

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
GO_ON = (
    "Your answer has already begun. Write only what follows these words, without repeating them: "
)


class OpenAIEngine:
    """A vision-language model behind a server.

    Args:
        address: of the API, for example ``http://localhost:8000/v1``.
        model: its name at the server; None for the only one that the server has.
        api_key: None for the environment variable ``OPENAI_API_KEY``, else an empty key.
        dialect: ``"vllm"``, ``"sglang"``, ``"openai"``; None asks the server who it is.
        timeout: seconds for one call, unless a request says fewer.

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
        import os

        try:
            import openai
        except ImportError as error:
            raise MissingPart.extra("speaking to a model server", "openai") from error
        self._openai: Any = openai
        self.address, self._timeout = address, timeout
        key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._client: Any = openai.OpenAI(
            base_url=address, api_key=key, timeout=timeout, max_retries=1
        )
        if model is None or dialect is None:
            with self._reported():
                found = list(self._client.models.list().data)
            model = model or _only(found, address)
            self.dialect = (
                Dialect(name=dialect)
                if dialect
                else recognised([str(each.owned_by) for each in found if each.id == model])
            )
        else:
            self.dialect = Dialect(name=dialect)
        self.model: str = model

    @property
    def name(self) -> str:
        """The address with the name of the model."""
        return f"{self.address}#{self.model}"

    @property
    def abilities(self) -> Abilities:
        """Prefill and stops where the dialect has them; candidates always come together."""
        return Abilities(prefill=self.dialect.extended, stop=self.dialect.extended)

    def generate(self, request: Request) -> Reply:
        """Continues a conversation in ``request.n`` ways.

        Raises:
            BadInput: the server refuses the conversation, for example by its length.
            MissingPart: the server is not reachable.
            RunFailed: the server failed, or did not answer in time.
        """
        end = time.monotonic() + min(self._timeout, request.timeout or self._timeout)
        notes = self._notes(request)
        made, read = self._call(request, request.prefill, request.n, end)
        while len(made) < request.n:
            notes += [NO_N] if NO_N not in notes else []
            more, again = self._call(request, request.prefill, 1, end)
            made, read = [*made, *more[:1]], read + again
        finished = []
        for each in made[: request.n]:
            whole, again = self._completed(request, each, end)
            finished.append(whole)
            read += again
        return Reply(continuations=tuple(finished), prompt_tokens=read, notes=tuple(notes))

    def first_token(self, request: Request) -> dict[str, float]:
        """How likely the first token of an answer is: the 20 likeliest with their probability.

        Raises:
            BadInput: the server refuses the conversation, or to tell so many.
            MissingPart: the server is not reachable.
            RunFailed: the server failed, did not answer in time, or tells no probabilities.
        """
        seconds = min(self._timeout, request.timeout or self._timeout)
        with self._reported():
            reply = self._client.with_options(timeout=seconds).chat.completions.create(
                model=self.model,
                messages=self._messages(request.messages, request.prefill),
                temperature=0.0,
                max_completion_tokens=1,
                logprobs=True,
                top_logprobs=TOLD,
                **self.dialect.parameters(request),
            )
        told = reply.choices[0].logprobs if reply.choices else None
        if told is None or not told.content:
            raise RunFailed(f"{self.name} tells no probabilities of tokens (logprobs).")
        found: dict[str, float] = {}
        for each in told.content[0].top_logprobs:
            found[each.token] = found.get(each.token, 0.0) + math.exp(each.logprob)
        return found

    def _notes(self, request: Request) -> list[str]:
        notes = []
        if any(calm(message.text) != message.text for message in request.messages):
            notes.append(BROKEN_UP)
        if request.prefill and not self.dialect.extended:
            notes.append(NO_PREFILL)
        if request.sampling.top_k and not self.dialect.extended:
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
        left = end - time.monotonic()
        if left <= 0:
            raise RunFailed(f"{self.name} did not finish within its time.")
        sampling = request.sampling
        with self._reported():
            reply = self._client.with_options(timeout=left).chat.completions.create(
                model=self.model,
                messages=self._messages(request.messages, prefill),
                n=n,
                temperature=sampling.temperature,
                seed=sampling.seed,
                max_completion_tokens=max_tokens or request.max_tokens,
                **self.dialect.parameters(_with(request, prefill)),
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
        text = choice.message.content or ""
        if not self.dialect.extended and prefill:
            text = _without(text, prefill)
        if request.until == "end":
            finish: Finish = "length" if choice.finish_reason == "length" else "end"
            return Continuation(text=text, finish=finish, tokens=tokens)
        if self.dialect.extended:
            ended = self.dialect.ended(choice, text)
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
                    *([{"type": "text", "text": calm(message.text)}] if message.text else []),
                ],
            }
            for message in messages
        ]  # fmt: skip
        if prefill and self.dialect.extended:
            found.append({"role": "assistant", "content": [{"type": "text", "text": prefill}]})
        elif prefill:
            said = [{"type": "text", "text": GO_ON + prefill}]
            found.insert(0, {"role": "system", "content": said})
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
            raise MissingPart(
                f"{self.address} refuses the key; set OPENAI_API_KEY ({error.status_code})."
            ) from error
        except client.NotFoundError as error:
            raise MissingPart(f"{self.address} does not have this model or path.") from error
        except (client.BadRequestError, client.UnprocessableEntityError) as error:
            said = shown(" ".join(str(error).split()), 300)
            raise BadInput(f"{self.address} refuses the conversation: {said}") from error
        except Exception as error:  # a server may answer anything; nothing is hidden
            said = shown(" ".join(str(error).split()), 300)
            raise RunFailed(f"{self.address} failed: {type(error).__name__}: {said}") from error


def _with(request: Request, prefill: str) -> Request:
    import dataclasses

    return dataclasses.replace(request, prefill=prefill)


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
    joined = prefill.endswith((" ", "\n")) or stripped[:1] in ",.;:!?、。"
    return stripped if joined or not stripped else f" {stripped}"


def _uri(image: Image) -> str:
    """A picture as a ``data:`` address of its PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
