"""What a guidance rule is: tensors in, tensors out, parameters frozen, state passed on.

At each denoising step a rule turns the denoiser's predictions into one guided prediction. All
predictions are in ε-space (predicted noise), in float32 and as ``batch channel *space``, whatever
the model itself predicts; `tadasu.backends` converts before and after.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from tadasu.errors import BadInput, UnknownName, shown

State = TypeVar("State")
Own = TypeVar("Own", bound="Rule[Any]")

#: ``"merged"``: one prediction for all concepts of an image, their texts joined; ``"each"``: one
#: prediction per concept; ``"nothing"``: the two predictions that the pipeline makes anyway;
#: ``"attention"``: the concepts' attention outputs instead of their predictions; ``"context"``: the
#: text encoder's states, before the first step.
Needs = Literal["merged", "each", "nothing", "attention", "context"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is known when a run of the sampler begins.

    Attributes:
        count: number of steps in the run.
        weights: strength per concept and image; 0 where a concept does not concern an image.
        latents: the first noisy latents x_T.
        likeness: cosine between each image's prompt and each concept in the text encoder's own
            space, in [-1, 1]; not-a-number where the backend cannot tell.
        decode: latents to pictures ``batch 3 height width`` in [0, 1], differentiable; None where
            the backend cannot.
    """

    count: int
    weights: Float[Tensor, "concepts batch"]
    latents: Float[Tensor, "batch channel *space"]
    likeness: Float[Tensor, "concepts batch"]
    decode: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where in the schedule a prediction was made; x_t = signal·x₀ + noise·ε.

    Attributes:
        index: 0 for the first step.
        count: number of steps in the run.
        guidance_scale: the pipeline's classifier-free guidance scale s_g.
        signal: √ᾱ_t for variance-preserving models, 1 - t for flow models; in [0, 1].
        noise: √(1 - ᾱ_t), or t for flow models; in [0, 1].
    """

    index: int
    count: int
    guidance_scale: float
    signal: float
    noise: float

    def begins_at(self, fraction: float) -> bool:
        """Whether this step lies at or after a fraction of the schedule.

        >>> step = Step(index=2, count=10, guidance_scale=7.5, signal=0.5, noise=0.9)
        >>> step.begins_at(0.2), step.begins_at(0.3)
        (True, False)
        """
        return self.index >= math.floor(fraction * self.count + 0.5)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The denoiser's predictions at one step, in ε-space and float32.

    Attributes:
        unconditional: ε_u.
        prompt: ε_p; with several rules at once, the prediction as the rules before left it.
        concepts: one prediction per concept (exactly one for a rule that needs ``"merged"``).
            Where nothing was evaluated it repeats ε_u, so that every difference vanishes.
        evaluated: which entries of ``concepts`` were really predicted at this step.
        weights: strength per concept and image; 0 where a concept does not concern an image.
        latents: x_t, scaled so that x_t = signal·x₀ + noise·ε.
    """

    unconditional: Float[Tensor, "batch channel *space"]
    prompt: Float[Tensor, "batch channel *space"]
    concepts: Float[Tensor, "concepts batch channel *space"]
    evaluated: Bool[Tensor, "concepts batch"]
    weights: Float[Tensor, "concepts batch"]
    latents: Float[Tensor, "batch channel *space"]

    def cfg(self, scale: float) -> Float[Tensor, "batch channel *space"]:
        """Plain classifier-free guidance ε_u + s_g(ε_p - ε_u)."""
        return self.unconditional + scale * (self.prompt - self.unconditional)

    def per_image(
        self, values: Shaped[Tensor, "*concepts batch"]
    ) -> Shaped[Tensor, "*concepts batch ..."]:
        """One number per image (and concept), shaped to multiply a prediction."""
        return values.reshape(*values.shape, *(1,) * (self.prompt.ndim - 1))


def gap(
    first: Float[Tensor, "*batch channel *space"],
    second: Float[Tensor, "*batch channel *space"],
    axes: int,
) -> Float[Tensor, "*batch"]:
    """Squared distance between two predictions per image: a sum over the last ``axes`` axes."""
    return (first - second).pow(2).flatten(-axes).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Rule(ABC, Generic[State]):
    """A guidance rule: its fields are its parameters, its configuration and its record.

    A subclass lives in a file of its own; the file's name is the rule's public name.

    Attributes:
        name: the file's name.
        presets: named settings that the paper or its code publishes.
        bounds: allowed range per parameter, both ends included.
        quality: True for a rule that only repairs the picture; it runs after all others.
        candidates: True if the rule chooses among many texts by their likeness to the prompt, so
            that a backend gives it every prompt and name of a concept, not one text for each.
        replaces_unconditional: True if at strength 1 the rule never looks at ε_u, so that a
            backend may put the concept where the unconditional text was.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, float | bool | str]]] = {}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    quality: ClassVar[bool] = False
    candidates: ClassVar[bool] = False
    replaces_unconditional: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Take the public name from the file."""
        cls.name = cls.__module__.rpartition(".")[2]

    def __post_init__(self) -> None:
        """Refuse parameters that are not finite or out of range."""
        for key, value in self.parameters().items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            low, high = self.bounds.get(key, (-math.inf, math.inf))
            if not math.isfinite(value) or not low <= value <= high:
                expected = "a finite number"
                if key in self.bounds:
                    expected += f" from {low:g} to {high:g}"
                raise BadInput(f"{self.name}: {key}={shown(value)} must be {expected}.")

    @classmethod
    def preset(cls: type[Own], name: str) -> Own:
        """The rule with a published setting, by its name.

        Raises:
            UnknownName: this rule has no such preset.
        """
        if name not in cls.presets:
            raise UnknownName(f"preset of {cls.name}", name, cls.presets)
        return cls(**cls.presets[name])

    def parameters(self) -> dict[str, float | int | bool | str]:
        """Every parameter by name, as a record stores it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def ready(self) -> None:
        """Refuse to be attached while something is missing that has no default.

        Raises:
            BadInput: says what is missing.
        """
        return

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Which predictions the rule wants beside ε_u and ε_p."""

    @property
    def nearest_only(self) -> int:
        """How many texts of an image the rule looks at, the likest first; 0 is all of them."""
        return 0

    @property
    def uses_likeness(self) -> bool:
        """Whether the backend has to compare the prompt's context with the concepts'."""
        return False

    @abstractmethod
    def start(self, start: Start) -> State:
        """The state before the first step."""

    def wants(
        self, step: Step, state: State, weights: Float[Tensor, "concepts batch"]
    ) -> Bool[Tensor, "concepts batch"]:
        """Which concept predictions this step needs; the others are not computed.

        Args:
            step: the step that is about to be predicted.
            state: the state after the step before.
            weights: strength per concept and image, on the CPU; so is the answer, which decides
                what is computed. A rule copies nothing from the device here.
        """
        del step, state
        return weights != 0

    @abstractmethod
    def step(
        self, predictions: Predictions, step: Step, state: State
    ) -> tuple[Float[Tensor, "batch channel *space"], State]:
        """One guided prediction, and the state for the next step.

        Where every weight of an image is 0 the result is plain guidance for that image.
        """


def nowhere(weights: Float[Tensor, "concepts batch"]) -> Bool[Tensor, "concepts batch"]:
    """No concept prediction is needed for any image."""
    return torch.zeros_like(weights, dtype=torch.bool)
