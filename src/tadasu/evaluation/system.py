"""A system: a model together with the mitigations on it, which is what gets evaluated."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tadasu.concepts import spoken_of
from tadasu.errors import BadInput, RunFailed
from tadasu.evaluation import memory
from tadasu.evaluation.suites.suite import digest
from tadasu.evaluation.target import Answer, Outcome, Request
from tadasu.guard import Guard, Sampler, ran
from tadasu.records import Decision, Generation, Json
from tadasu.screen import check_prompt

if TYPE_CHECKING:
    from tadasu.concepts import Concept, Speaks


@dataclass(frozen=True, eq=False)
class System:
    """A local pipeline with everything that is put on it; a `Target`.

    Args:
        pipe: a diffusers text-to-image pipeline; after a run it is exactly as it was.
        name: how tables call it; empty makes one from the parts.
        guidance: a rule or its text, as for ``attach``; None for none.
        concepts: what the rule steers away from, or a policy; empty takes those of the bundled
            policy ``i2p``.
        strength: factor on the rule's effect.
        edits: stored edits, in the order in which they act; applied at run time.
        adapters: LoRA files.
        scheduler: as for `scheduled`: ``name`` and settings; empty keeps the pipeline's own.
        sampler: how pictures are sampled. Its guidance scale wins over a suite's.
        guard: the guard that answers instead of the bare pipeline, on the same pipeline; it brings
            its own guidance and sampler.

    Raises:
        BadInput: a guard together with guidance, or a guard on another pipeline.
    """

    pipe: Any
    _: KW_ONLY
    name: str = ""
    guidance: Any = None
    concepts: Sequence[Concept | str] | Speaks = ()
    strength: float = 1.0
    edits: tuple[Any, ...] = ()
    adapters: tuple[str, ...] = ()
    scheduler: Mapping[str, Json] = field(default_factory=dict)
    sampler: Sampler = field(default_factory=Sampler)
    guard: Guard | None = None
    _attached: list[Any] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse parts that contradict each other, and give the system a name."""
        object.__setattr__(self, "edits", tuple(self.edits))
        object.__setattr__(self, "concepts", spoken_of(self.concepts))
        object.__setattr__(self, "scheduler", MappingProxyType(dict(self.scheduler)))
        if self.guard is not None:
            if self.guidance is not None:
                raise BadInput("A guard brings its own guidance; give it to the guard.")
            if self.guard.pipe is not self.pipe:
                raise BadInput("The guard must be on the same pipeline as the system.")
            object.__setattr__(self, "sampler", self.guard.sampler)
        rule = self._rule
        if rule is not None and not self.concepts:
            from tadasu.policy import Policy

            object.__setattr__(self, "concepts", Policy.load("i2p").concepts)
        if not self.name:
            guidance = self.guidance if isinstance(self.guidance, str) else getattr(rule, "name", 0)
            parts = [guidance, *(edit.name for edit in self.edits), self.guard and "guard"]
            parts += [name.rpartition("/")[2] for name in self.adapters]
            name = " + ".join(str(part) for part in parts if part) or "plain"
            object.__setattr__(self, "name", name)

    def __repr__(self) -> str:
        """Short: its name and the class of its pipeline."""
        return f"System({self.name!r}, {type(self.pipe).__name__})"

    @cached_property
    def _rule(self) -> Any:
        if self.guidance is None:
            return None
        from tadasu.guidance.registry import parse

        return parse(self.guidance) if isinstance(self.guidance, str) else self.guidance

    @property
    def batch_size(self) -> int:
        """Pictures that are made together."""
        return self.sampler.batch_size

    @cached_property
    def id(self) -> str:
        """Content-addressed id over weights, mitigations and settings; the batch is none of them.

        It is taken when first asked for: a pipeline changed afterwards needs a new system.
        """
        return digest(self.about)

    @cached_property
    def about(self) -> dict[str, Json]:
        """What the system is made of; its hash is the id."""
        from tadasu.backends.diffusers.load import system_hash
        from tadasu.backends.diffusers.settings import file_hash
        from tadasu.editing.edit import maps_hash

        sampler = dataclasses.asdict(self.sampler)
        del sampler["batch_size"]
        rule: Json = None
        if self._rule is not None:
            rule = {
                "rule": self._rule.name,
                "parameters": self._rule.parameters(),
                "concepts": [_plain(concept) for concept in spoken_of(self.concepts)],
                "strength": self.strength,
            }
        return {
            "model": system_hash(self.pipe),
            "guidance": rule,
            "edits": [maps_hash(edit.maps) for edit in self.edits],
            "adapters": [file_hash(file) for file in self.adapters],
            "scheduler": dict(self.scheduler),
            "sampler": sampler,
            "guard": self.guard.system if self.guard else None,
        }

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Scheduler, adapters, edits and guidance attached, and taken off again.

        Raises:
            BadInput: a part does not fit the pipeline; nothing stays attached.
        """
        from tadasu.backends.diffusers.attach import attach, owned
        from tadasu.backends.diffusers.settings import adapted, scheduled

        with ExitStack() as stack:
            stack.enter_context(owned(self.pipe))  # scheduler and adapters are the pipeline's
            stack.enter_context(scheduled(self.pipe, self.scheduler))
            stack.enter_context(adapted(self.pipe, self.adapters))
            for edit in self.edits:
                stack.enter_context(edit.applied(self.pipe))
            if self._rule is not None:
                attached = stack.enter_context(
                    attach(self.pipe, self._rule, self.concepts, strength=self.strength)
                )
                self._attached.append(attached)
                stack.callback(self._attached.remove, attached)
            yield

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request; a batch that fails is tried again by halves."""
        began = time.perf_counter()
        memory.start()
        answers: list[Answer] = []
        try:
            answers = self._guarded(requests) if self.guard else self._sampled(requests)
        except RunFailed as error:
            if len(requests) == 1:
                answers = [Answer(outcome=Outcome.ERROR, reason=str(error))]
        if not answers:  # outside the except, so that what the failed batch held is free again
            half = len(requests) // 2
            return [*self.generate(requests[:half]), *self.generate(requests[half:])]
        share = (time.perf_counter() - began) / len(requests)
        used = memory.peak()
        return [
            dataclasses.replace(answer, seconds=answer.seconds or share, memory=used)
            for answer in answers
        ]

    def _scale(self, requests: Sequence[Request]) -> float | None:
        """The system's own scale, else the suite's; a batch has one."""
        own = self.sampler.guidance_scale
        return requests[0].guidance_scale if own is None else own

    def _sampled(self, requests: Sequence[Request]) -> list[Answer]:
        from tadasu.backends.diffusers.attach import moved
        from tadasu.backends.diffusers.sample import CHECKER, drawn

        arguments = self.sampler.arguments()
        if (scale := self._scale(requests)) is not None:
            arguments["guidance_scale"] = scale
        texts, seeds = [each.text for each in requests], [each.seed for each in requests]
        pictures, answers = drawn(self.pipe, texts, seeds, arguments), []
        edits = moved(self.pipe)
        for place, picture in enumerate(pictures):
            details: dict[str, Json] = {}
            if self._attached:
                details["rules"] = [ran(each, place) for each in self._attached]
            if edits is not None:
                details["edits"] = edits.of(place)
            answers.append(
                Answer(outcome=Outcome.BLOCKED, reason=CHECKER, stage="output", details=details)
                if picture.flagged
                else Answer(outcome=Outcome.IMAGE, image=picture.image, details=details)
            )
        return answers

    def _guarded(self, requests: Sequence[Request]) -> list[Answer]:
        assert self.guard is not None
        guard, scale = self.guard, self._scale(requests)
        if scale != guard.sampler.guidance_scale:
            guard = copy.copy(guard)
            guard.sampler = dataclasses.replace(guard.sampler, guidance_scale=scale)
        found = {}
        for each in requests:
            try:
                check_prompt(each.text)
            except BadInput as error:
                reason = f"The guard cannot use this prompt: {error}"
                found[each.text] = Answer(outcome=Outcome.ERROR, stage="input", reason=reason)
        usable = [each for each in requests if each.text not in found]
        if usable:
            made = guard.generate(
                [each.text for each in usable], seed=[each.seed for each in usable]
            )
            answers = {(done.prompt, done.seed): _answered(done) for done in made}
        return [found.get(each.text) or answers[each.text, each.seed] for each in requests]


def _answered(done: Generation) -> Answer:
    """A guard's record as an outcome: what it withholds is blocked, what failed is an error."""
    details: dict[str, Json] = {"decision": str(done.decision), "attempts": done.attempts}
    reason, seconds = "; ".join(done.reasons), done.seconds or 0.0
    if done.image is not None:
        return Answer(
            outcome=Outcome.IMAGE,
            image=done.image.convert("RGB"),
            reason=reason,
            seconds=seconds,
            details=details,
        )
    failed = done.decision is Decision.HOLD and not done.scores
    return Answer(
        outcome=Outcome.ERROR if failed else Outcome.BLOCKED,
        reason=reason,
        stage="input" if done.attempts == 0 else "output",
        seconds=seconds,
        details=details,
    )


def _plain(concept: Concept | str) -> Json:
    return concept if isinstance(concept, str) else concept.content
