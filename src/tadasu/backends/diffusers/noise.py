"""Which noise level a step stands at, and how a model's output relates to predicted noise.

Everywhere x_t = signal·x₀ + noise·ε, for variance-preserving and for flow models alike. What a
model predicts is then an affine function of ε at fixed x_t:

======================  =====================================
model predicts          ε
======================  =====================================
ε                       the prediction
v = signal·ε - noise·x₀   signal·v + noise·x_t
x₀                      (x_t - signal·x₀) / noise
flow ε - x₀             x_t + signal·(ε - x₀)
======================  =====================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from tadasu.errors import BadInput, shown

#: At pure noise every ε-prediction equals x_t and differences carry no information; below this
#: gain they are measured at this gain instead, which leaves linear guidance exact.
_SMALLEST_GAIN = 1e-2
#: Tables of schedulers as plain numbers, each with the version of the tensor that was read.
_read: Any = WeakIdKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Level:
    """One noise level and the model's prediction type at it.

    Attributes:
        signal: factor of the clean image, in [0, 1].
        noise: factor of the noise, in [0, 1].
        gain: ε = gain·output + offset·x_t.
        offset: see ``gain``.
    """

    signal: float
    noise: float
    gain: float
    offset: float

    def to_noise(
        self,
        output: Float[Tensor, "batch channel *space"],
        latents: Float[Tensor, "batch channel *space"],
    ) -> Float[Tensor, "batch channel *space"]:
        """The model's output as predicted noise."""
        if self.gain == 1 and self.offset == 0:
            return output
        return self.gain * output + self.offset * latents

    def to_output(
        self, difference: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """A difference of predicted noises as a difference of outputs."""
        return difference / self.gain


def numbers(table: Tensor) -> list[float]:
    """A scheduler's table as plain numbers.

    It is copied from the device once, and again when it was written to, so that no step waits for
    the device.
    """
    known: tuple[int, list[float]] | None = _read.get(table)
    if known is None or known[0] != table._version:
        known = table._version, [float(value) for value in table.tolist()]
        _read[table] = known
    return known[1]


def is_flow(scheduler: Any) -> bool:
    """Whether x_t lies on the straight line between image and noise."""
    kind = getattr(scheduler.config, "prediction_type", None)
    return kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch")


def level(scheduler: Any, index: int, timestep: float, sign: float = 1.0) -> Level:
    """The noise level of one step of a run.

    Args:
        scheduler: a diffusers scheduler whose timesteps are set.
        index: number of the step within this run.
        timestep: the timestep as the scheduler counts it, for schedulers without ``sigmas``.
        sign: -1 for models that predict the negated velocity.

    Raises:
        BadInput: the scheduler states no noise level or an unknown prediction type.
    """
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        at = scheduler.step_index
        if at is None:
            at = (scheduler.begin_index or 0) + index
        sigma = numbers(sigmas)[min(int(at), len(sigmas) - 1)]
        if is_flow(scheduler):
            return _prediction("flow_prediction", 1 - sigma, sigma, sign)
        signal = 1 / math.sqrt(1 + sigma**2)
        noise = sigma * signal
    elif hasattr(scheduler, "alphas_cumprod"):
        last = len(scheduler.alphas_cumprod) - 1
        retained = numbers(scheduler.alphas_cumprod)[min(max(round(timestep), 0), last)]
        signal, noise = math.sqrt(retained), math.sqrt(1 - retained)
    else:
        raise BadInput(
            f"{type(scheduler).__name__} has neither sigmas nor alphas_cumprod, so the noise level "
            "of a step is unknown. Use for example DDIMScheduler or EulerDiscreteScheduler."
        )
    return _prediction(scheduler.config.get("prediction_type", "epsilon"), signal, noise, sign)


def _prediction(kind: str, signal: float, noise: float, sign: float) -> Level:
    """ε = gain·output + offset·x_t for one prediction type."""
    if kind == "epsilon":
        gain, offset = 1.0, 0.0
    elif kind == "v_prediction":
        gain, offset = signal, noise
    elif kind == "sample":
        gain, offset = -signal / max(noise, _SMALLEST_GAIN), 1 / max(noise, _SMALLEST_GAIN)
    elif kind == "flow_prediction":
        gain, offset = signal, 1.0
    else:
        raise BadInput(
            f"The scheduler's prediction type {shown(kind)} is unknown; known are epsilon, "
            "v_prediction, sample and flow_prediction."
        )
    if abs(gain) < _SMALLEST_GAIN:
        gain = math.copysign(_SMALLEST_GAIN, gain)
    return Level(signal=signal, noise=noise, gain=sign * gain, offset=offset)
