"""What an audit says about one file and one concept, with its evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args

from tadasu.concepts import Severity
from tadasu.errors import BadInput, shown
from tadasu.records import Json
from tadasu.statistics.intervals import Interval

Stage = Literal[
    "read",
    "metadata",
    "lineage",
    "text_direction",
    "text_encoder",
    "first_order",
    "decoys",
    "probe",
]
STAGES: tuple[Stage, ...] = get_args(Stage)
Conclusion = Literal["present", "absent", "undecided", "unreadable", "partly read", "broken"]
CONCLUSIONS: tuple[Conclusion, ...] = get_args(Conclusion)
#: From the worst that can be said of a file to the best.
ORDER: tuple[Conclusion, ...] = (
    "present",
    "broken",
    "unreadable",
    "partly read",
    "undecided",
    "absent",
)


class Response(StrEnum):
    """What to do about a file."""

    ALLOW = "allow"
    RETRAIN = "retrain"
    EDIT_AWAY = "edit away"
    WITHHOLD = "withhold"
    ESCALATE = "escalate"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one stage saw.

    Attributes:
        stage: which.
        says: one sentence for people.
        score: its number, in the stage's own unit; None where it has none.
        unit: of the score.
    """

    stage: Stage
    says: str
    score: float | None = None
    unit: str = ""

    def as_json(self) -> dict[str, Json]:
        """For reports and stored results."""
        return {
            "stage": self.stage,
            "says": self.says,
            "score": _plain(self.score),
            "unit": self.unit,
        }


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One file and one concept; or one file that could not be read.

    Attributes:
        file: as it was given.
        digest: SHA-256 of its bytes; empty where it could not be read.
        concept: of the bank; empty for an unreadable file.
        part_of: the policy concept it belongs to.
        conclusion: present, absent, undecided, unreadable, partly read (nothing was found in what
            was read, which is too little of the file), or broken (the file destroys the model).
        stage: the last stage that looked.
        score: of the probe, in spreads of irrelevant concepts; None where it did not look.
        p_value: chance of such a score for an irrelevant concept.
        interval: share of the concept's pictures that gain, with limits.
        strength: at which the file was probed.
        severity: from the policy.
        response: what to do.
        reason: in words.
        evidence: of every stage that looked.
        layers: share of the first-order effect by layer, signed; positive teaches the concept.
        seconds: spent on the whole file.
        coverage: share of the file that was read and found in the base, from 0 to 1; None where
            it could not be read.

    Raises:
        BadInput: weights alone were taken for proof, or an unknown word.
    """

    file: str
    digest: str = ""
    concept: str = ""
    part_of: str = ""
    conclusion: Conclusion
    stage: Stage
    score: float | None = None
    p_value: float | None = None
    interval: Interval | None = None
    strength: float = 1.0
    severity: Severity = "medium"
    response: Response = Response.ALLOW
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    layers: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        """Refuse conclusions that no stage may draw."""
        if self.conclusion not in CONCLUSIONS or self.stage not in STAGES:
            raise BadInput(f"Unknown conclusion or stage: {self.conclusion}, {self.stage}.")
        if self.conclusion == "present" and self.stage not in ("probe", "lineage"):
            raise BadInput(
                f"{self.stage} triages and never convicts; it was given as proof that "
                f"{shown(self.file)} knows {shown(self.concept)}."
            )

    @property
    def found(self) -> bool:
        """Whether somebody has to look: anything but absent."""
        return self.conclusion != "absent"

    def as_json(self) -> dict[str, Json]:
        """The whole finding as plain values."""
        limits: Json = None
        if self.interval is not None:
            limits = {
                "estimate": _plain(self.interval.estimate),
                "low": self.interval.low,
                "high": self.interval.high,
                "confidence": self.interval.confidence,
            }
        return {
            "file": self.file,
            "digest": self.digest,
            "concept": self.concept,
            "part_of": self.part_of,
            "conclusion": self.conclusion,
            "stage": self.stage,
            "score": _plain(self.score),
            "p_value": _plain(self.p_value),
            "interval": limits,
            "strength": self.strength,
            "severity": self.severity,
            "response": str(self.response),
            "reason": self.reason,
            "evidence": [each.as_json() for each in self.evidence],
            "layers": {name: share for name, share in self.layers.items() if math.isfinite(share)},
            "seconds": self.seconds,
            "coverage": self.coverage,
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Finding:
        """What `as_json` wrote."""
        limits = plain["interval"]
        if limits is not None:
            estimate = float("nan") if limits["estimate"] is None else limits["estimate"]
            limits = Interval(**{**limits, "estimate": estimate})
        return cls(
            **{
                **plain,
                "interval": limits,
                "response": Response(plain["response"]),
                "evidence": tuple(Evidence(**each) for each in plain["evidence"]),
            }
        )


def response(conclusion: Conclusion, severity: Severity) -> Response:
    """What is recommended: nobody's decision is taken, a person may do otherwise.

    >>> str(response("present", "high"))
    'withhold'
    """
    if conclusion == "absent":
        return Response.ALLOW
    if conclusion in ("unreadable", "broken"):
        return Response.WITHHOLD
    if conclusion in ("undecided", "partly read"):
        return Response.ESCALATE
    by_severity: Mapping[Severity, Response] = {
        "low": Response.RETRAIN,
        "medium": Response.EDIT_AWAY,
        "high": Response.WITHHOLD,
        "critical": Response.ESCALATE,
    }
    return by_severity[severity]


def blood_test(findings: Sequence[Finding]) -> Mapping[str, int]:
    """How many files came out how; a file counts once, with its worst conclusion.

    >>> one = Finding(file="a", concept="x", conclusion="absent", stage="probe")
    >>> two = Finding(file="a", concept="y", conclusion="undecided", stage="probe")
    >>> dict(blood_test([one, two]))
    {'present': 0, 'broken': 0, 'unreadable': 0, 'partly read': 0, 'undecided': 1, 'absent': 0}
    """
    worst: dict[str, int] = {}
    for finding in findings:
        rank = ORDER.index(finding.conclusion)
        worst[finding.file] = min(worst.get(finding.file, rank), rank)
    return {name: sum(rank == at for rank in worst.values()) for at, name in enumerate(ORDER)}


def _plain(value: float | None) -> float | None:
    """A number as JSON has it: none where it is none."""
    return value if value is not None and math.isfinite(value) else None
