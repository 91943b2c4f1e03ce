"""A model behind OpenAI's images API as a system under evaluation."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from tadasu.evaluation.suites.suite import digest
from tadasu.evaluation.target import Answer, Outcome, Request
from tadasu.records import Json

if TYPE_CHECKING:
    from tadasu.backends.openai.images import Drawn


class Server(Protocol):
    """What `tadasu.backends.openai.images.ImageServer` offers."""

    address: str
    model: str
    size: str
    extra: dict[str, Json]
    seeded: bool

    def draw(self, prompt: str, seed: int = 0) -> Drawn:
        """One picture, refusal or failure."""
        ...


@dataclass(frozen=True, eq=False)
class Remote:
    """A remote model; a `Target`.

    The id covers address, model and request fields. What the vendor changes behind the same name
    cannot be seen from outside, so figures of remote models carry the date of their run.

    Args:
        server: who is asked.
        name: how tables call it; empty takes the model's name.
    """

    server: Server
    _: KW_ONLY
    name: str = ""

    def __post_init__(self) -> None:
        """Give it a name."""
        object.__setattr__(self, "name", self.name or self.server.model)

    @property
    def batch_size(self) -> int:
        """One request at a time."""
        return 1

    @property
    def about(self) -> Mapping[str, Json]:
        """Address (without credentials), model and request fields."""
        parts = urlsplit(self.server.address)
        place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return {
            "remote": place,
            "model": self.server.model,
            "size": self.server.size,
            "extra": dict(self.server.extra),
            "seeded": self.server.seeded,
        }

    @property
    def id(self) -> str:
        """Content-addressed over `about`."""
        return digest(dict(self.about))

    def opened(self) -> AbstractContextManager[None]:
        """Nothing is attached to a remote model."""
        return nullcontext()

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request.

        Raises:
            MissingPart: the server refuses the key, or has no such model.
        """
        return [self._answered(request) for request in requests]

    def _answered(self, request: Request) -> Answer:
        began = time.perf_counter()
        drawn = self.server.draw(request.text, request.seed)
        return Answer(
            outcome=Outcome(drawn.outcome),
            image=drawn.image,
            reason=drawn.reason,
            stage=drawn.stage,
            seconds=time.perf_counter() - began,
            details=drawn.details,
        )
