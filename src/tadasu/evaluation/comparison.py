"""The same prompts and seeds through several systems, judged alike, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tadasu.detectors.detector import Detector, examine
from tadasu.errors import BadInput
from tadasu.guard import Guard, Sampler, decide
from tadasu.policy import Policy
from tadasu.records import Score
from tadasu.statistics.intervals import Rate

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One prompt of a comparison.

    Attributes:
        text: the prompt.
        seed: of its picture, the same in every column.
        suite: the suite it belongs to.
        shows: judge labels that a faithful picture shows; empty where nothing is expected.
    """

    text: str
    seed: int
    suite: str
    shows: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Cell:
    """What one system made of one prompt.

    Attributes:
        image: what the user would get; None where nothing was released.
        decision: ``release`` for unguarded systems, else the guard's decision.
        reasons: the guard's reasons.
        seconds: wall time of this picture, its share of the batch.
        unsafe: whether the judge flags what the user would get; None where it could not tell or
            there is no picture.
        faithful: whether the judge finds everything that was asked; None as above.
        scores: what the judge says about the picture.
    """

    image: Image | None
    decision: str = "release"
    reasons: tuple[str, ...] = ()
    seconds: float = 0.0
    unsafe: bool | None = None
    faithful: bool | None = None
    scores: tuple[Score, ...] = ()


@dataclass(kw_only=True)
class Column:
    """One system of a comparison.

    Attributes:
        name: as it is called on the command line.
        cells: one per ask, in the same order.
    """

    name: str
    cells: list[Cell] = field(default_factory=list)

    def rate(self, asks: Sequence[Ask], suite: str, what: str) -> Rate:
        """Share of unsafe or faithful pictures of a suite, with its Wilson 95 % interval.

        ``"unsafe"`` counts unsafe pictures that users got among all prompts, less those whose
        picture could not be judged; a stopped picture is not unsafe, and counts as lost in
        ``"faithful"``, which is among all prompts too.
        """
        cells = [c for ask, c in zip(asks, self.cells, strict=True) if ask.suite == suite]
        if what == "unsafe":
            known = [bool(c.unsafe) for c in cells if c.image is None or c.unsafe is not None]
            return Rate(count=sum(known), n=len(known))
        if what == "faithful":
            return Rate(count=sum(bool(cell.faithful) for cell in cells), n=len(cells))
        if what == "released":
            return Rate(count=sum(cell.image is not None for cell in cells), n=len(cells))
        raise BadInput(f"{what!r} is not measured here; expected unsafe, faithful or released.")

    @property
    def seconds(self) -> float:
        """Mean wall time per picture."""
        return sum(cell.seconds for cell in self.cells) / max(len(self.cells), 1)


def steered(
    pipe: Any, asks: Sequence[Ask], rule: str | None, policy: Policy, sampler: Sampler
) -> Iterator[list[Cell]]:
    """Pictures of a pipeline under one guidance rule against every concept, batch by batch.

    Args:
        pipe: a diffusers pipeline.
        asks: prompts and seeds.
        rule: a guidance rule as on the command line; None for the plain pipeline.
        policy: whose concepts are steered away from.
        sampler: how pictures are sampled.
    """
    from tadasu.backends.diffusers.attach import attach
    from tadasu.backends.diffusers.sample import drawn

    with attach(pipe, rule, policy.concepts) if rule else nullcontext():
        for start in range(0, len(asks), sampler.batch_size):
            batch = asks[start : start + sampler.batch_size]
            texts, seeds = [ask.text for ask in batch], [ask.seed for ask in batch]
            began = time.perf_counter()
            made = drawn(pipe, texts, seeds, sampler.arguments())
            share = (time.perf_counter() - began) / len(batch)
            yield [Cell(image=each.image, seconds=share) for each in made]


def guarded(guard: Guard, asks: Sequence[Ask]) -> Iterator[list[Cell]]:
    """What a guard hands out, batch by batch, every prompt with its own seed."""
    size = guard.sampler.batch_size
    for start in range(0, len(asks), size):
        batch = asks[start : start + size]
        made = guard.generate([ask.text for ask in batch], seed=[ask.seed for ask in batch])
        found = {(done.prompt, done.seed): done for done in made}
        done_in_order = [found[ask.text, ask.seed] for ask in batch]
        yield [
            Cell(
                image=done.image,
                decision=str(done.decision),
                reasons=done.reasons,
                seconds=done.seconds or 0.0,
            )
            for done in done_in_order
        ]


def judged(
    cells: Sequence[Cell],
    asks: Sequence[Ask],
    policy: Policy,
    judge: Detector,
    names: Callable[[Sequence[Image]], list[set[str]]],
) -> None:
    """Fills in what the judge says about every picture that was handed out.

    Args:
        cells: of one column.
        asks: their prompts.
        policy: its thresholds for this judge say what is unsafe.
        judge: who judges; its unscored answers leave ``unsafe`` at None.
        names: which labels the judge finds in pictures.
    """
    with_image = [(cell, ask) for cell, ask in zip(cells, asks, strict=True) if cell.image]
    images = [cell.image for cell, _ in with_image if cell.image is not None]
    rows = examine(judge, images)
    for (cell, ask), scores, found in zip(with_image, rows, names(images), strict=True):
        cell.scores = tuple(scores)
        told = all(score.value is not None for score in scores)
        cell.unsafe = bool(decide(policy, scores).flagged) if told else None
        cell.faithful = set(ask.shows) <= found if ask.shows else None
