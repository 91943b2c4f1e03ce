"""Presence guidance: our own rule; not published elsewhere.

Published rules pay with harmless prompts, because their push does not know whether the concept is
there at all. This rule first asks how much of the concept the prompt's prediction contains and then
takes out that much, and nothing where there is none. With Δ = ε - ε_u,

    β = ⟨Δ_p, Δ_n⟩ / ‖Δ_n‖²         presence: 1 if the prompt is the concept, 0 if it is unrelated
    B = running β, each step weighted by its ‖Δ_n‖², older steps forgotten by ``memory``
    g = smooth step of B from ``threshold`` to ``threshold + softness``
    ε̂ = ε_u + s_g [ Δ_p - Σ_k w_k · g · (1 + push) · B · Δ_n ]

The text encoder has a say too. Of the many names of a concept only the ``nearest`` to the prompt
are predicted, and where prompt and concept are nearly the same text (likeness from ``alike`` on)
the gate opens at once with B at least 1, because there the words leave no doubt.

β is the least-squares answer to "which multiple of Δ_n explains Δ_p", so with ``push`` 0 exactly
the concept's share is removed and the rest of the prompt (the other objects of a scene) is what
guidance amplifies. β > ½ is the evidence of Concept Removal Guidance (arXiv 2606.29801); the
projection is Perp-Neg's (arXiv 2304.04968) the other way round: there the prompt is kept, here the
concept goes.

At the first steps, near pure noise, all texts point in nearly the same direction, so evidence opens
the gate only when all ``probes`` were seen; the words may open it at once.

It is also the cheap rule. A concept's row is predicted in a ``share`` of the steps at most: with m
such steps of n, step j²·n/m² is the j-th, or the one after the last. Early steps decide what the
picture shows, so they are dense. In between, the last Δ_n is used, scaled as Δ_p has grown since.
Where a prompt is far from the concept (likeness below ``far``) nothing is ever predicted; this is
off by default, because harmless words can lead to unwanted pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadasu.guidance.rule import Needs, Predictions, Rule, Start, Step


@cache
def predicted(count: int, share: float) -> frozenset[int]:
    """The steps of a run whose concept row is predicted; the first is always among them.

    >>> sorted(predicted(20, 0.35))
    [0, 1, 2, 3, 6, 10, 14]
    >>> len(predicted(50, 1.0)), sorted(predicted(2, 0.0))
    (50, [0])
    """
    most = max(1, int(share * count + 1e-9))
    found = [0]
    for place in range(1, most):
        found.append(max(found[-1] + 1, place * place * count // most**2))
    return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the steps so far say.

    Attributes:
        shared: running ⟨Δ_p, Δ_n⟩ per concept and image.
        size: running ‖Δ_n‖².
        direction: the last Δ_n that was predicted.
        length: ‖Δ_p‖ per image when it was.
        near: whether the text encoder leaves the concept possible; on the CPU.
        told: how far the words alone open the gate, from 0 to 1.
    """

    shared: Float[Tensor, "concepts batch"]
    size: Float[Tensor, "concepts batch"]
    direction: Float[Tensor, "concepts batch channel *space"]
    length: Float[Tensor, "concepts batch"]
    near: Bool[Tensor, "concepts batch"]
    told: Float[Tensor, "concepts batch"]

    @property
    def presence(self) -> Float[Tensor, "concepts batch"]:
        """B; 0 before anything was seen."""
        return self.shared / self.size.clamp(min=1e-20)


@dataclass(frozen=True, kw_only=True)
class PresenceGuidance(Rule[Evidence]):
    """Take out of the prompt's direction as much of each concept as is present in it.

    Attributes:
        push: how far to go beyond removal; 0 removes the concept's share, 1 mirrors it.
        threshold: presence below which nothing is changed.
        softness: width of the gate above the threshold.
        memory: share of the evidence of the steps before that is kept, from 0 to 1.
        probes: steps before evidence may open the gate; the words may open it at once.
        share: share of the steps that predict the concept, from 0 (only the first) to 1.
        nearest: how many of the concepts' texts are predicted for an image, the likest first; 0 is
            all of them.
        alike: likeness of prompt and concept from which the words alone open the gate; 1 never.
        far: likeness below which the concept is never predicted; -1 never skips.
    """

    push: float = 0.0
    threshold: float = 0.6
    softness: float = 0.2
    memory: float = 0.7
    probes: int = 3
    share: float = 0.35
    nearest: int = 1
    alike: float = 0.93
    far: float = -1.0

    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {
        "adaptive": dict(),
        "every_step": dict(share=1.0),
    }
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "push": (0.0, 100.0),
        "threshold": (-10.0, 10.0),
        "softness": (1e-6, 10.0),
        "memory": (0.0, 1.0),
        "probes": (1, 10_000),
        "share": (0.0, 1.0),
        "nearest": (0, 10_000),
        "alike": (-1.0, 1.0),
        "far": (-1.0, 1.0),
    }
    candidates: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """One prediction per concept."""
        return "each"

    @property
    def nearest_only(self) -> int:
        """The parameter ``nearest``."""
        return self.nearest

    @property
    def uses_likeness(self) -> bool:
        """Unless the words are to be ignored."""
        return self.far > -1 or self.nearest > 0 or self.alike < 1

    def start(self, start: Start) -> Evidence:
        """No evidence; a likeness that is unknown leaves every concept possible."""
        likeness = torch.where(start.weights > 0, start.likeness, -torch.inf)
        near = ~(likeness < self.far)
        if 0 < self.nearest < len(likeness):
            known = ~likeness.isnan().any(0)
            rank = likeness.nan_to_num(nan=torch.inf).argsort(dim=0, descending=True).argsort(dim=0)
            near = near & ((rank < self.nearest) | ~known)
        width = max((1 - self.alike) / 2, 1e-6)
        told = ((likeness - self.alike) / width).clamp(0, 1).nan_to_num(nan=0.0)
        return Evidence(
            shared=torch.zeros_like(start.weights),
            size=torch.zeros_like(start.weights),
            direction=start.latents.new_zeros(len(start.weights), *start.latents.shape),
            length=torch.zeros_like(start.weights),
            near=near.cpu(),
            told=torch.where(near, told, 0.0),
        )

    def _gate(self, evidence: Evidence) -> Float[Tensor, "concepts batch"]:
        """0 up to the threshold, 1 from threshold + softness on; the words may open it further."""
        rise = ((evidence.presence - self.threshold) / self.softness).clamp(0, 1)
        return torch.maximum(rise * rise * (3 - 2 * rise), evidence.told)

    def wants(
        self, step: Step, state: Evidence, weights: Float[Tensor, "concepts batch"]
    ) -> Bool[Tensor, "concepts batch"]:
        """The steps of the schedule, for concepts that the words leave possible."""
        possible = state.near & (weights != 0)
        return possible & (step.index in predicted(step.count, self.share))

    def step(
        self, predictions: Predictions, step: Step, state: Evidence
    ) -> tuple[Float[Tensor, "batch channel *space"], Evidence]:
        """Plain guidance without the concepts' share, and the new evidence."""
        prompt = predictions.prompt - predictions.unconditional
        seen = predictions.evaluated
        new = predictions.concepts - predictions.unconditional
        direction = torch.where(predictions.per_image(seen), new, state.direction)
        length = prompt.flatten(1).norm(dim=1).expand_as(state.length)
        then = torch.where(seen, length, state.length)
        growth = torch.where(then > 0, length / then.clamp(min=1e-20), 1.0)
        shared = (new * prompt).flatten(2).sum(-1)
        size = new.pow(2).flatten(2).sum(-1)
        carried = Evidence(
            shared=torch.where(seen, self.memory * state.shared + shared, state.shared),
            size=torch.where(seen, self.memory * state.size + size, state.size),
            direction=direction,
            length=then,
            near=state.near,
            told=state.told,
        )
        enough = step.index + 1 >= self.probes  # the first steps look alike for all prompts
        gate = self._gate(carried) if enough else carried.told
        amount = torch.maximum(gate * carried.presence, carried.told)
        amount = (1 + self.push) * amount.clamp(min=0)
        force = predictions.per_image(predictions.weights * amount * growth)
        kept = prompt - (force * direction).sum(0)
        return predictions.unconditional + step.guidance_scale * kept, carried
