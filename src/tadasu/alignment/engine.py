"""The contract of an engine: something that continues a conversation about a picture.

A local model (`tadasu.backends.transformers.engine`), a server that speaks the OpenAI protocol
(`tadasu.backends.openai.engine`) and a script for tests (`tadasu.alignment.scripted`) answer the
same requests. An engine generates; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from tadasu.errors import BadInput, RunFailed, shown
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["system", "user", "assistant"]
Until = Literal["end", "sentence", "full stop"]
Finish = Literal["end", "sentence", "length"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        text: what is said; it may be empty where there is a picture.
        images: RGB pictures that come before the text.

    Raises:
        BadInput: a role that does not exist.
    """

    role: Role = "user"
    text: str = ""
    images: tuple[Image, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse other roles."""
        if self.role not in get_args(Role):
            raise BadInput(f"A message's role is one of {', '.join(get_args(Role))}; "
                           f"got {shown(self.role)}.")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token always.
        top_k: only so many of the most likely tokens can be drawn; 0 for all.
        seed: makes a local model's draws repeatable; None leaves them free.

    Raises:
        BadInput: a temperature or a number of tokens below 0.
    """

    temperature: float = 0.0
    top_k: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no engine can use; not-a-number is refused too."""
        if not 0 <= self.temperature <= 100:
            raise BadInput(f"temperature={shown(self.temperature)} must be from 0 to 100.")
        if self.top_k < 0:
            raise BadInput(f"top_k={shown(self.top_k)} must be 0 or more.")

    def as_json(self) -> dict[str, Json]:
        """For records."""
        return {"temperature": self.temperature, "top_k": self.top_k, "seed": self.seed}


GREEDY = Sampling()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What an engine is asked to continue.

    Attributes:
        messages: the conversation; the last message is the user's.
        prefill: how the answer begins; the engine goes on from its last character.
        n: how many continuations are wanted.
        sampling: how tokens are chosen. Several continuations of a greedy request are equal.
        until: where a continuation stops: ``"end"`` of the answer, the end of the first
            ``"sentence"`` (`tadasu.alignment.sentences`), or the first ``"full stop"`` character.
        max_tokens: where it stops at the latest.
        timeout: seconds of wall time after which the engine gives up; None for its own limit.
        resume: `Reply.resume` or `Continuation.resume` of an earlier request about the same
            messages. An engine that can do so goes on from there without reading everything
            again; the answer is the same.

    Raises:
        BadInput: no message, a last message that is not the user's, or a number below 1.
    """

    messages: tuple[Message, ...]
    prefill: str = ""
    n: int = 1
    sampling: Sampling = GREEDY
    until: Until = "end"
    max_tokens: int = 512
    timeout: float | None = None
    resume: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse requests that mean nothing."""
        if not self.messages or self.messages[-1].role != "user":
            raise BadInput("An engine continues a conversation whose last message is the user's.")
        if self.until not in get_args(Until):
            raise BadInput(f"until={shown(self.until)} is none of {', '.join(get_args(Until))}.")
        if self.n < 1 or self.max_tokens < 1:
            raise BadInput(f"n={self.n} and max_tokens={self.max_tokens} must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One way to go on.

    Attributes:
        text: exactly what follows the prefill, with its leading space where there is one.
        finish: ``"end"`` when the model ended its answer, ``"sentence"`` when the engine stopped
            after a sentence, ``"length"`` when it ran into ``max_tokens``.
        tokens: how many tokens were generated for it; what was cut off behind a sentence counts.
        resume: hand it to the next request, with this text added to the prefill; None when the
            engine reads everything again.
    """

    text: str
    finish: Finish
    tokens: int
    resume: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What an engine gave.

    Attributes:
        continuations: as many as were asked for.
        prompt_tokens: how many tokens were read for them; those that were remembered do not count.
        notes: what the reader of a record must know, for example that a prefill was emulated.
        resume: hand it to later requests about the same messages; None when the engine reads
            everything again.
    """

    continuations: tuple[Continuation, ...]
    prompt_tokens: int
    notes: tuple[str, ...] = ()
    resume: Any = field(default=None, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Generated tokens of all continuations."""
        return sum(each.tokens for each in self.continuations)


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What an engine does by itself; what it lacks it emulates, and says so in a note.

    Attributes:
        n: several continuations come out of one batch.
        prefill: an answer goes on exactly from a given beginning.
        stop: generation stops at the end of a sentence, and is not cut afterwards.
        resume: continuations can be gone on with without reading everything again.
    """

    n: bool = True
    prefill: bool = True
    stop: bool = True
    resume: bool = False


@runtime_checkable
class Engine(Protocol):
    """Continues conversations about pictures."""

    @property
    def name(self) -> str:
        """What records call it: the folder, hub id or address of the model."""
        ...

    @property
    def abilities(self) -> Abilities:
        """What it does by itself."""
        ...

    def generate(self, request: Request) -> Reply:
        """Continues a conversation in ``request.n`` ways, in one batch where it can.

        Raises:
            BadInput: the conversation does not fit the model, for example by its length.
            MissingPart: the model or server is not reachable.
            RunFailed: generation broke off; nothing that was generated may be used.
        """
        ...


def continued(engine: Engine, request: Request) -> Reply:
    """Asks an engine, and refuses a reply that does not answer the request.

    Raises:
        RunFailed: the engine gave another number of continuations than was asked for.
    """
    reply = engine.generate(request)
    if len(reply.continuations) != request.n:
        raise RunFailed(
            f"{engine.name} gave {len(reply.continuations)} continuations; {request.n} were "
            "asked for."
        )
    return reply


def count(replies: Sequence[Reply]) -> dict[str, Json]:
    """Tokens read and generated, for records.

    >>> count([Reply(continuations=(Continuation(text="Hi.", finish="end", tokens=2),),
    ...              prompt_tokens=7)])
    {'calls': 1, 'prompt_tokens': 7, 'generated_tokens': 2}
    """
    return {
        "calls": len(replies),
        "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
        "generated_tokens": sum(reply.tokens for reply in replies),
    }
