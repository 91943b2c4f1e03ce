"""What happened to one question: every score, every candidate, every second, and why.

A journal is filled while a method runs, so that a run that breaks off half way still leaves a
record. The record holds what the model said before it was aligned; it is for operators.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from tadasu.alignment.engine import Engine, Finish, Reply, Request, continued, count
from tadasu.alignment.evaluators.evaluator import Finding
from tadasu.alignment.spoken import spoken
from tadasu.errors import RunFailed
from tadasu.records import Json


class Action(StrEnum):
    """What happened to an answer."""

    ANSWERED = "answered"
    ALIGNED = "aligned"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One sentence that could have come next.

    Attributes:
        text: the sentence.
        finish: why it stopped.
        reward: how safe the answer would be with it; higher is safer.
        fit: how well it fits the picture, -1 to 1; None when that was not asked.
        score: what the choice was made by.
        flagged: whether the answer with it would be flagged; None where the round did not ask.
    """

    text: str
    finish: Finish
    reward: float | None
    fit: float | None
    score: float | None
    flagged: bool | None = None

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {
            "text": self.text,
            "finish": self.finish,
            "reward": self.reward,
            "fit": self.fit,
            "score": self.score,
            "flagged": self.flagged,
        }


@dataclass(frozen=True, kw_only=True)
class Round:
    """One sentence of a deep alignment.

    Attributes:
        sentence: its number, from 1.
        weight: what the fit to the picture counted.
        candidates: what there was to choose from.
        chosen: which was taken; None when all were flagged and the answer ended before them.
    """

    sentence: int
    weight: float
    candidates: tuple[Candidate, ...]
    chosen: int | None

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {
            "sentence": self.sentence,
            "weight": self.weight,
            "candidates": [each.as_json() for each in self.candidates],
            "chosen": self.chosen,
        }


@dataclass(kw_only=True)
class Journal:
    """What a running method writes down.

    Attributes:
        deadline: `time.monotonic` seconds after which the engine is not asked any more.
        findings: everything the evaluators said.
        rounds: of deep alignment.
        path: what the gate and the method did, in order.
        drafts: by stage, what the model said.
        replies: everything the engine gave.
        seconds: wall time of each part.
        notes: what the engine's replies remark.
    """

    deadline: float | None = None
    findings: list[Finding] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    drafts: dict[str, str] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds the wall time of a block to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[part] = self.seconds.get(part, 0.0) + spent

    def left(self) -> float | None:
        """Seconds until the deadline; None without one.

        Raises:
            RunFailed: it is over.
        """
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise RunFailed("The time for this answer is over.")
        return left

    def ask(self, engine: Engine, part: str, request: Request) -> Reply:
        """Asks the engine and writes down what it cost."""
        with self.timed(part):
            reply = continued(engine, request)
        self.replies.append(reply)
        self.notes += [note for note in reply.notes if note not in self.notes]
        return reply

    def said(self, text: str) -> str:
        """The answer in a model's text, without thoughts and loops; what went is noted."""
        answer, notes = spoken(text)
        self.notes += [note for note in notes if note not in self.notes]
        return answer

    def found(self, findings: list[Finding]) -> bool:
        """Writes findings down; True when one of them is flagged."""
        self.findings += findings
        return any(each.flagged for each in findings)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why an answer is what it is. ``print(explanation)`` gives it in words.

    Attributes:
        action: what happened.
        path: what the gate and the method did, in order.
        findings: every score with its threshold and margin.
        rounds: per sentence of a deep alignment, the candidates and the choice.
        drafts: by stage, what the model said.
        seconds: wall time of each part.
        notes: what the reader should know.
        error: why the run broke off; empty when it did not.
    """

    action: Action
    path: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    rounds: tuple[Round, ...] = ()
    drafts: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str = ""

    def __post_init__(self) -> None:
        """Make the mappings read-only."""
        for name in ("drafts", "seconds"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __str__(self) -> str:
        """The explanation in words, a line for each step."""
        lines = [f"{self.action}: " + " -> ".join(self.path)]
        lines += [_finding_line(finding) for finding in self.findings]
        for each in self.rounds:
            lines.append(f"sentence {each.sentence} (weight of the picture {each.weight:.2f})")
            lines += [
                _candidate_line(candidate, chosen=place == each.chosen)
                for place, candidate in enumerate(each.candidates)
            ]
        times = ", ".join(f"{part} {value:.2f} s" for part, value in self.seconds.items())
        lines += [f"time: {times}"] if times else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"error: {self.error}"] if self.error else []
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the user gets, and its record.

    Attributes:
        text: the answer, aligned where it had to be, or the policy's refusal.
        action: answered as the model did, aligned, or refused.
        explanation: every score, candidate and second.
        question: what was asked.
        image: SHA-256 of the picture's pixels, ``sha256:…``.
        system: what answered: engine, method with its parameters, evaluators.
        policy: name, version and hash of the policy.
        tokens: calls, tokens read and tokens generated.
    """

    text: str
    action: Action
    explanation: Explanation = field(repr=False)
    question: str
    image: str
    system: Mapping[str, Json]
    policy: Mapping[str, Json]
    tokens: Mapping[str, Json]

    def __post_init__(self) -> None:
        """Make the mappings read-only."""
        for name in ("system", "policy", "tokens"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        why = self.explanation
        return {
            "text": self.text,
            "action": str(self.action),
            "question": self.question,
            "image": self.image,
            "system": dict(self.system),
            "policy": dict(self.policy),
            "path": list(why.path),
            "scores": [finding.as_json() for finding in why.findings],
            "sentences": [each.as_json() for each in why.rounds],
            "drafts": dict(why.drafts),
            "seconds": dict(why.seconds),
            "tokens": dict(self.tokens),
            "notes": list(why.notes),
            "error": why.error or None,
        }


def explained(journal: Journal, action: Action, error: str = "") -> Explanation:
    """A journal as an explanation."""
    return Explanation(
        action=action,
        path=tuple(journal.path),
        findings=tuple(journal.findings),
        rounds=tuple(journal.rounds),
        drafts=journal.drafts,
        seconds=journal.seconds,
        notes=tuple(journal.notes),
        error=error,
    )


def spent(journal: Journal) -> dict[str, Json]:
    """Calls and tokens of a journal."""
    return count(journal.replies)


def _finding_line(finding: Finding) -> str:
    score, verdict = finding.verdict.score, finding.verdict
    if score.value is None:
        return f"  {finding.stage}: {score.detector} could not tell: {score.note}"
    side = "at least" if score.higher_is == "more" else "at most"
    said = "flagged" if finding.flagged else "safe"
    chance = "" if finding.probability is None else f", {finding.probability:.0%} unsafe"
    note = f" ({score.note})" if score.note else ""
    return (
        f"  {finding.stage}: {said}; {score.detector} says {score.value:.3f} {score.unit} for "
        f"{score.concept}{note}, flagged from {side} {verdict.threshold:.3f}{chance}"
    )


def _candidate_line(candidate: Candidate, *, chosen: bool) -> str:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    mark = ">" if chosen else " "
    return (
        f"  {mark} {number(candidate.score)} (safety {number(candidate.reward)}, picture "
        f"{number(candidate.fit)}) {candidate.text.strip()!r}"
    )
