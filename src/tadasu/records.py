"""What was measured, concluded and decided: score, verdict, decision, generation.

A detector gives a score; a threshold makes it a verdict; a policy or a person makes a decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tadasu.errors import BadInput, shown

if TYPE_CHECKING:
    from PIL.Image import Image

#: What JSON can say.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Decision(StrEnum):
    """What happens to one picture."""

    RELEASE = "release"
    BLUR = "blur"
    BLOCK = "block"
    REGENERATE = "regenerate"
    HOLD = "hold"


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a detector says about one picture or text and one concept.

    Attributes:
        detector: who says it.
        concept: what it is about.
        value: the measurement; None when the detector could not tell.
        unit: what the value counts, for example ``"probability"`` or ``"cosine similarity"``.
        higher_is: whether a higher value means more or less of the concept.
        state: ``"unscored"`` when the detector failed or could not tell; that is never 0.
        note: why it is unscored, or what the reader should know.

    Raises:
        BadInput: a value that is not finite, or a state that disagrees with the value.
    """

    detector: str
    concept: str
    value: float | None
    unit: str
    higher_is: Literal["more", "less"] = "more"
    state: Literal["scored", "unscored"] = "scored"
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers that are none and states that disagree with the value."""
        if self.value is not None and not math.isfinite(self.value):
            raise BadInput(
                f"{self.detector} gave {shown(self.value)} for {shown(self.concept)}; "
                f"a score is a finite number, or unscored."
            )
        if (self.value is None) != (self.state == "unscored"):
            raise BadInput(
                f"A score is unscored exactly when it has no value; {self.detector} gave "
                f"{shown(self.value)} as {shown(self.state)}."
            )

    @classmethod
    def unscored(cls, detector: str, concept: str, unit: str, note: str) -> Score:
        """The score of a detector that failed or could not tell."""
        return cls(
            detector=detector, concept=concept, value=None, unit=unit, state="unscored", note=note
        )

    def against(self, threshold: float) -> Verdict:
        """The verdict of a threshold; a score exactly on it is flagged.

        >>> Score(detector="judge", concept="weapons", value=0.5, unit="probability").against(
        ...     0.5
        ... ).flagged
        True
        """
        if not math.isfinite(threshold):
            raise BadInput(f"A threshold is a finite number; got {shown(threshold)}.")
        flagged = None
        if self.value is not None:
            more = self.higher_is == "more"
            flagged = self.value >= threshold if more else self.value <= threshold
        return Verdict(score=self, threshold=threshold, flagged=flagged)

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {
            "detector": self.detector,
            "concept": self.concept,
            "value": self.value,
            "unit": self.unit,
            "higher_is": self.higher_is,
            "state": self.state,
            "note": self.note,
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A score held against a threshold.

    Attributes:
        score: what was measured.
        threshold: in the score's unit.
        flagged: None when the score is unscored; whoever decides must not read that as "no".
    """

    score: Score
    threshold: float
    flagged: bool | None

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {**self.score.as_json(), "threshold": self.threshold, "flagged": self.flagged}


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The record of one picture that was asked for.

    Attributes:
        prompt: as the user gave it.
        seed: makes the picture repeatable.
        system: content-addressed id of the model with its mitigations.
        policy: name, version and hash of the policy that ran.
        scores: everything the detectors said about the last attempt.
        decision: what happened.
        reasons: why, in words a user may read; empty for a release without remarks.
        attempts: how many pictures were made; 0 when the prompt was stopped.
        guidance: ``rules``: each rule that ran, with its parameters, the steps that were made and
            those on which it acted on this picture; ``edits``: where edits acted at run time, and
            how far they moved this picture's text. Empty without either.
        screen: what the prompt screen found, as its record.
        case: outcomes of this picture that wait for a person, as the policy says.
        seconds: wall time of the work on this picture.
        file: where the released picture was written.
        image: the picture; None unless it was released, blurred or not.
    """

    prompt: str
    seed: int
    system: str
    policy: Mapping[str, Json] = field(repr=False)
    scores: tuple[Score, ...] = field(default=(), repr=False)
    decision: Decision
    reasons: tuple[str, ...] = ()
    attempts: int = 1
    guidance: Mapping[str, Json] = field(default_factory=dict, repr=False)
    screen: Mapping[str, Json] = field(default_factory=dict, repr=False)
    case: tuple[str, ...] = ()
    seconds: float | None = None
    file: str | None = None
    image: Image | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the mappings read-only; refuse a picture that was not released."""
        for name in ("policy", "guidance", "screen"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if self.image is not None and self.decision not in (Decision.RELEASE, Decision.BLUR):
            raise BadInput(f"A picture whose decision is {self.decision} is not handed out.")

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``: everything but the picture itself."""
        return {
            "file": self.file,
            "prompt": self.prompt,
            "seed": self.seed,
            "system": self.system,
            "policy": dict(self.policy),
            "scores": [score.as_json() for score in self.scores],
            "decision": str(self.decision),
            "reasons": list(self.reasons),
            "attempts": self.attempts,
            "guidance": dict(self.guidance),
            "screen": dict(self.screen),
            "case": list(self.case),
            "seconds": self.seconds,
        }
