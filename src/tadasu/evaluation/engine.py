"""Where pictures are made: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tadasu.errors import RunFailed, UnknownName
from tadasu.evaluation.pictures import encode
from tadasu.evaluation.plan import Batch
from tadasu.evaluation.target import Answer, Target

NAMES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Made:
    """An answer as it travels and is stored.

    Attributes:
        key: of its item.
        png: the picture's bytes; None without one.
        row: everything else, as JSON.
    """

    key: str
    png: bytes | None
    row: dict[str, Any]


class Engine(Protocol):
    """Makes batches of pictures; the runner alone writes them down."""

    def make(
        self, targets: Sequence[Target], work: Sequence[Batch]
    ) -> Iterator[tuple[Batch, list[Made]]]:
        """Every batch with its answers, in any order."""
        ...


class Local:
    """Makes pictures in this process, one batch after the other."""

    def make(
        self, targets: Sequence[Target], work: Sequence[Batch]
    ) -> Iterator[tuple[Batch, list[Made]]]:
        """Every batch with its answers, in the order of the work; systems are opened once."""
        for place in dict.fromkeys(batch.target for batch in work):
            with targets[place].opened():
                for batch in work:
                    if batch.target == place:
                        yield batch, answered(targets[place], batch)


def answered(target: Target, batch: Batch) -> list[Made]:
    """What a system makes of a batch, ready to be stored.

    Raises:
        RunFailed: the system did not answer once for each request.
    """
    answers = target.generate([item.request for item in batch.items])
    if len(answers) != len(batch.items):
        raise RunFailed(
            f"The system {target.name} gave {len(answers)} answers to {len(batch.items)} requests."
        )
    return [_made(item.key, answer) for item, answer in zip(batch.items, answers, strict=True)]


def _made(key: str, answer: Answer) -> Made:
    row = {
        "key": key,
        "outcome": str(answer.outcome),
        "reason": answer.reason,
        "stage": answer.stage,
        "seconds": answer.seconds,
        "memory": answer.memory,
        "details": dict(answer.details),
    }
    return Made(key=key, png=encode(answer.image) if answer.image is not None else None, row=row)


def engine(name: str, *, workers: int = 2) -> Engine:
    """An engine by name.

    Args:
        name: one of `NAMES`.
        workers: of a Ray cluster.

    Raises:
        UnknownName: there is no such engine.
        MissingPart: Ray is not installed.
    """
    if name == "local":
        return Local()
    if name != "ray":
        raise UnknownName("engine", name, NAMES)
    from tadasu.evaluation.engine_ray import OnRay

    return OnRay(workers=workers)
