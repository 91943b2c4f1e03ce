"""Which concepts of which file are worth the probe.

Everything before the probe is cheap and looks at weights or words alone, so it may only say
"look here first" and "look no further": a concept that nothing points at is left unprobed and
reported with the stage that saw nothing. It is never reported as present.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_MAD = 1.4826


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """How much is probed.

    Attributes:
        first_order: first-order gain, in spreads over the file's own bank, from which a concept is
            probed.
        text_direction: z-score from which a concept is probed.
        most: concepts that are probed at most because of these two; the best first. What metadata
            or lineage name is probed beside them.
        always: concepts that are probed whatever the cheap stages say, the best first.
        rivals: harmless concepts that are probed as well, to hold the others against.
    """

    first_order: float = 1.0
    text_direction: float = 3.0
    most: int = 8
    always: int = 2
    rivals: int = 3

    def chosen(
        self,
        concepts: Sequence[str],
        first_order: Mapping[str, float],
        text_direction: Mapping[str, float],
        named: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """The concepts to probe, those that metadata or lineage name first.

        Args:
            concepts: what the audit asks about.
            first_order: spreads by concept; empty when the stage did not run, then all are probed.
            text_direction: z-scores by concept; may be empty.
            named: concepts that other evidence names.
        """
        if not first_order:
            return tuple(concepts)
        # What could not be measured is not left out, however many there are.
        lost = [
            name for name in concepts if _lost(first_order, name) or _lost(text_direction, name)
        ]
        left = [name for name in concepts if name not in lost]
        order = sorted(left, key=lambda name: -first_order.get(name, 0.0))
        hit = [
            name
            for at, name in enumerate(order)
            if at < self.always
            or first_order.get(name, 0.0) >= self.first_order
            or text_direction.get(name, 0.0) >= self.text_direction
        ]
        asked = [name for name in concepts if name in named]
        return tuple(dict.fromkeys((*asked, *lost, *hit[: self.most])))

    def opponents(
        self, concepts: Sequence[str], first_order: Mapping[str, float]
    ) -> tuple[str, ...]:
        """The harmless concepts that the file seems to know best."""
        known = [name for name in concepts if not _lost(first_order, name)]
        order = sorted(known, key=lambda name: -first_order.get(name, 0.0))
        return tuple(order[: self.rivals])


def _lost(scores: Mapping[str, float], name: str) -> bool:
    """Whether a score was asked for and is no number."""
    return math.isnan(scores.get(name, 0.0))


def spreads(gains: Float[Tensor, " concept"], concepts: Sequence[str]) -> dict[str, float]:
    """First-order gains as distances from the file's median gain, in robust spreads.

    A gain that is no number has no distance (NaN) and leaves those of the others as they are.

    >>> found = spreads(torch.tensor([0.0, 1.0, 2.0, 9.0]), ["a", "b", "c", "d"])
    >>> found["d"] > 3 > abs(found["b"])
    True
    """
    known = gains[gains.isfinite()]
    if not len(known):
        return dict.fromkeys(concepts, math.nan)
    middle = known.median()
    spread = (_MAD * (known - middle).abs().median()).clamp_min(1e-12)
    if len(known) == len(gains) and not torch.any(gains != 0):
        return dict.fromkeys(concepts, 0.0)
    scaled = torch.where(gains.isfinite(), (gains - middle) / spread, math.nan)
    return {name: float(value) for name, value in zip(concepts, scaled, strict=True)}
