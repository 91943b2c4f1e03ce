"""What a run has to do: every picture of it, in batches that never change.

The plan depends on systems, suites and settings only, never on what is done already: so a run that
was killed makes the same batches again, and with them the same bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tadasu.errors import BadInput
from tadasu.evaluation.suites.suite import Suite, digest
from tadasu.evaluation.target import Request


class Named(Protocol):
    """A system as far as its plan goes; a `Target`, or one that ran before."""

    @property
    def name(self) -> str:
        """As in tables."""
        ...

    @property
    def id(self) -> str:
        """Content address."""
        ...

    @property
    def batch_size(self) -> int:
        """How many requests it takes at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture of a run.

    Attributes:
        target: place of its system in the run.
        suite: id of its suite.
        prompt: id of its prompt there.
        sample: which picture of the prompt, from 0.
        request: what is asked.
        key: content address of the answer: system and request. Items of two suites that ask the
            same share it, and the picture is made once.
    """

    target: int
    suite: str
    prompt: str
    sample: int
    request: Request
    key: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Items that are made in one call.

    Attributes:
        target: place of their system in the run.
        items: at most the system's batch size, all of one guidance scale.
    """

    target: int
    items: tuple[Item, ...]


def items(targets: Sequence[Named], suites: Sequence[Suite], samples: int) -> list[Item]:
    """Every picture of a run, system by system, suite by suite.

    Raises:
        BadInput: nothing to do, or two systems or suites of one name.
    """
    if not targets or not suites or samples < 1:
        raise BadInput("An evaluation needs a system, a suite and a picture for each prompt.")
    for kind, names in (("systems", [t.name for t in targets]), ("suites", [s.id for s in suites])):
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise BadInput(f"Two {kind} are called {', '.join(doubled)}; give each its own name.")
    made = []
    for place, target in enumerate(targets):
        for suite in suites:
            each = range(suite.samples or samples)
            for sample, prompt in itertools.product(each, suite.prompts):
                request = Request(
                    text=prompt.text,
                    seed=prompt.seed + sample,
                    guidance_scale=prompt.guidance_scale,
                )
                made.append(
                    Item(
                        target=place,
                        suite=suite.id,
                        prompt=prompt.id,
                        sample=sample,
                        request=request,
                        key=_key(target.id, request),
                    )
                )
    return made


def batches(wanted: Sequence[Item], targets: Sequence[Named]) -> list[Batch]:
    """The calls that make all items, each picture once.

    A call has one system and one guidance scale; within these, items keep their order.
    """
    groups: dict[tuple[int, float | None], dict[str, Item]] = {}
    for item in wanted:
        group = groups.setdefault((item.target, item.request.guidance_scale), {})
        group.setdefault(item.key, item)
    made = []
    for (place, _), group in groups.items():
        size = targets[place].batch_size
        ordered = list(group.values())
        for start in range(0, len(ordered), size):
            made.append(Batch(target=place, items=tuple(ordered[start : start + size])))
    return sorted(made, key=lambda batch: batch.target)


def _key(system: str, request: Request) -> str:
    return digest([system, request.text, request.seed, request.guidance_scale])[len("sha256:") :]
