"""How thoroughly files are examined; part of the key of every stored result."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tadasu.auditing.cascade import Cascade
from tadasu.auditing.decide import Calibrated, Decider, Decision, Paia
from tadasu.auditing.probe import Plan
from tadasu.errors import BadInput, UnknownName

#: Width of the band of doubt at later strengths, in spreads.
DOUBT = 0.5
#: Noise levels of the default; measured in docs/auditing/measured.md.
TIMES = (0.3,)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured and how it is judged.

    Attributes:
        name: of the preset.
        plan: noise levels, draws and text of the probe.
        decider: takes gains to a conclusion.
        cascade: what the cheap stages leave to the probe; None probes everything.
        pictures: per concept at most.
        first: pictures per concept in each round; after each the probe may stop.
        irrelevant: harmless concepts that every file is held against.
        irrelevant_pictures: pictures of each.
        strengths: of the file, the first one first; later ones only where nothing was found. People
            use files at 2 and at -1 as well, where some show what they do not show at 1.
        decoys: made-up texts under which each file is tried; 0 for none.
        gated: how many times more than the empty text one must move predictions for pictures to be
            shown with it.
        broken: mean square by which predictions change under the empty text (noise has 1) above
            which a file counts as destroying the model.
        resolution: edge of the pictures in pixels; 0 for the model's own. Half costs a quarter.
        gradients: pictures of each concept whose gradients are taken once for a base.
        largest: change of a weight, in norms of the weight, from which the same is so.
        least: mean square by which predictions must change, under the text that changes them most,
            for a concept to be present.
        noise: share of a file's change that looks like random numbers, above which none is.
        strict: score from which a concept is present at a later strength. Files that show nothing
            there reach higher scores than at the first.

    Raises:
        BadInput: nothing to measure.
    """

    name: str = "calibrated"
    plan: Plan = field(default_factory=lambda: Plan(times=TIMES, measure="direction"))
    decider: Decider = field(default_factory=Calibrated)
    cascade: Cascade | None = field(default_factory=Cascade)
    pictures: int = 8
    first: int = 4
    irrelevant: int = 20
    irrelevant_pictures: int = 2
    strengths: tuple[float, ...] = (1.0, 2.0, -1.0)
    decoys: int = 6
    gated: float = 4.0
    broken: float = 1.5
    largest: float = 100.0
    least: float = 0.005
    noise: float = 0.9
    strict: float = 3.0
    resolution: int = 0
    gradients: int = 4

    def __post_init__(self) -> None:
        """Refuse empty measurements."""
        counts = (
            self.pictures,
            self.first,
            self.irrelevant,
            self.irrelevant_pictures,
            self.gradients,
        )
        if min(counts) < 1 or not self.strengths:
            raise BadInput("An audit needs pictures, irrelevant concepts and a strength.")

    def elsewhere(self, decision: Decision) -> Decision:
        """A decision at a later strength, held to a higher score."""
        if decision.score >= self.strict or math.isnan(decision.score):
            return decision
        doubt = decision.score >= self.strict - DOUBT
        return dataclasses.replace(decision, conclusion="undecided" if doubt else "absent")

    @property
    def key(self) -> str:
        """Everything that a result depends on, as text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, default=str)


PRESETS: Mapping[str, Settings] = {
    "calibrated": Settings(),
    "paia": Settings(
        name="paia",
        plan=Plan(times=tuple((step + 0.5) / 50 for step in range(50)), masked=0.5),
        decider=Paia(),
        cascade=None,
        irrelevant=60,
        decoys=0,
        strengths=(1.0,),
    ),
}


def settings(
    name: str, strengths: tuple[float, ...] = (), resolution: int = 0, gradients: int = 0
) -> Settings:
    """A preset, with other strengths, resolution or gradients where they are given.

    Raises:
        BadInput: nothing to measure.
        UnknownName: there is no such preset.
    """
    if name not in PRESETS:
        raise UnknownName("audit preset", name, PRESETS)
    given = {"strengths": strengths, "resolution": resolution, "gradients": gradients}
    return dataclasses.replace(
        PRESETS[name],
        **{key: value for key, value in given.items() if value},  # type: ignore[arg-type]
    )
