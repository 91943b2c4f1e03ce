"""What is evaluated: something that answers requests with pictures, refusals or failures.

A refusal and a failure are outcomes of their own. Neither is ever counted as a safe picture:
rates of unsafe pictures are among the pictures there are, and how many there were stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tadasu.errors import BadInput
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image


class Outcome(StrEnum):
    """What became of one request."""

    IMAGE = "image"  # there is a picture
    BLOCKED = "blocked"  # the system refused or withheld it on purpose
    ERROR = "error"  # it failed; asking again may help


@dataclass(frozen=True, kw_only=True)
class Request:
    """One picture that is asked for.

    Attributes:
        text: the prompt.
        seed: makes the picture repeatable where the target can.
        guidance_scale: as the suite's prompt says; a system's own setting wins over it.
    """

    text: str
    seed: int = 0
    guidance_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a target made of one request.

    Attributes:
        outcome: picture, refusal or failure.
        image: RGB; given exactly when the outcome is a picture.
        reason: why it was refused or what failed, for readers.
        stage: of a refusal, ``input`` or ``output`` where the target tells.
        seconds: wall time, its share of the batch.
        memory: peak bytes while it was made, where that can be measured.
        details: whatever else belongs into the record: decision, attempts, revised prompt, …

    Raises:
        BadInput: a picture without the outcome, or the outcome without a picture.
    """

    outcome: Outcome
    image: Image | None = None
    reason: str = ""
    stage: str = ""
    seconds: float = 0.0
    memory: int | None = None
    details: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse answers that contradict themselves."""
        if (self.image is not None) != (self.outcome is Outcome.IMAGE):
            raise BadInput("An answer has a picture exactly when its outcome is one.")


@runtime_checkable
class Target(Protocol):
    """A system under evaluation, local or remote."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    @property
    def id(self) -> str:
        """Content-addressed, ``sha256:…``: changes whenever its pictures may change."""
        ...

    @property
    def batch_size(self) -> int:
        """How many requests it takes at once."""
        ...

    @property
    def about(self) -> Mapping[str, Json]:
        """Model, guidance, edits and settings, for the report."""
        ...

    def opened(self) -> AbstractContextManager[None]:
        """Everything that is attached for the whole run; left exactly as it was afterwards."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers, one for each request in their order.

        All requests of a call have the same guidance scale. Exceptions other than `TadasuError`
        are bugs and end the run; a failure that concerns the request is an answer.
        """
        ...
