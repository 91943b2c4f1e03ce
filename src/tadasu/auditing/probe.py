"""How much better a file lets the model predict noise on reference pictures of a concept.

Xiaoyong Yuan, Xiaolong Ma, Linke Guo, Lan Zhang, "What Lurks Within? Concept Auditing for Shared
Diffusion Models at Scale" (PAIA), CCS 2025, arXiv 2504.14815, eq. 10 and 12 as re-implementations
cite them: the calibrated error of picture x₀ at timestep t is

    CE_t(x₀) = ‖ε'(x_t) - ε‖² - ‖ε_base(x_t) - ε‖²,

and the conditional one leaves the file's cross-attention out above a timestep γ (`Plan.masked`).
Here the sign is turned round: a **gain** is above 0 where the file predicts better.

Where we depart: with ``measure="direction"`` a gain is the cosine between what the file changes,
``Δ = ε' - ε_base``, and what the base lacks, ``r = ε - ε_base``. The calibrated error is
``‖Δ‖² - 2⟨Δ, r⟩``: its second term says whether the file points to the truth, its first only how
strong it is, and both grow with pictures that are hard for other reasons. The cosine keeps the
pointing alone, so strengths, timesteps and pictures compare. Further, noise is shared by all
pictures, files and the base (common random numbers); the base's predictions are computed once and
kept; the difference of squares is taken as ``⟨a - b, a + b - 2ε⟩``, which does not cancel in half
precision; and whether cross-attention is left out, and what text the pictures are shown with, are
choices that were measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from tadasu import files
from tadasu.auditing.merge import Merged, is_cross_attention
from tadasu.errors import BadInput

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
Gains = Float[Tensor, "picture time"]


class Denoiser(Protocol):
    """What a probe needs of a model; ``backends/diffusers/denoise`` makes it of a pipeline."""

    @property
    def identity(self) -> str:
        """Content-addressed id of the model."""
        ...

    @property
    def steps(self) -> int:
        """Number of training timesteps, T."""
        ...

    def levels(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of picture and noise at each timestep."""
        ...

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the model should predict."""
        ...

    def adapted(
        self, weights: Mapping[str, Tensor], texts: Sequence[str]
    ) -> AbstractContextManager[Predict]:
        """(noised, times, number of the text) to predictions, with other weights."""
        ...

    def parameter(self, name: str) -> Tensor | None:
        """A weight by its full name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """At which noise, how often and under which text pictures are predicted.

    Attributes:
        times: noise levels as shares of T, each above 0 and below 1.
        draws: noises per timestep.
        measure: ``error`` for the calibrated error, ``direction`` for the cosine.
        masked: share of T above which the file's cross-attention is left out (PAIA's γ / T is
            0.5); 1 leaves it in everywhere.
        named: whether pictures are shown with their concept's text; else with the empty text.
        seed: of the noise.

    Raises:
        BadInput: a share out of range, or nothing to draw.
    """

    times: tuple[float, ...]
    draws: int = 1
    measure: Literal["error", "direction"] = "error"
    masked: float = 1.0
    named: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.times or not all(0 < time < 1 for time in self.times) or self.draws < 1:
            raise BadInput("A plan needs times between 0 and 1, and at least one draw.")

    @property
    def low(self) -> tuple[float, ...]:
        """Times at which the whole file acts."""
        return tuple(time for time in sorted(self.times) if time <= self.masked)

    @property
    def high(self) -> tuple[float, ...]:
        """Times at which the file's cross-attention is left out."""
        return tuple(time for time in sorted(self.times) if time > self.masked)

    @property
    def rows(self) -> int:
        """Forwards per picture."""
        return len(self.times) * self.draws


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Pictures that are always predicted together, so that the same sums are rounded alike.

    Attributes:
        concept: what they show.
        latents: clean.
        text: what they are shown with where the plan says so.
    """

    concept: str
    latents: Float[Tensor, "picture channel height width"]
    text: str = ""


@dataclass(eq=False, kw_only=True)
class Probe:
    """Measures gains on one base.

    Args:
        denoiser: the base.
        plan: what is measured.
        folder: where the base's predictions are kept between runs; None for in memory only.
        base: the base's predictions so far, by content.
    """

    denoiser: Denoiser
    plan: Plan
    folder: Path | None = None
    base: dict[str, Tensor] = field(default_factory=dict)

    def gains(
        self, merged: Merged, blocks: Sequence[Block], *, text: str | None = None
    ) -> list[Gains]:
        """Gains of a file (or several, merged) on blocks of pictures, float32.

        Args:
            merged: the file.
            blocks: the pictures.
            text: what all are shown with instead of what the plan says; the base's predictions
                under it are not kept.

        Returns:
            Per block, per picture and time: the base's squared error less the file's, a mean
            over values and draws; or the cosine, a mean over draws. Exactly 0 for a file that
            changes nothing.
        """
        bare = merged.without(is_cross_attention) if self.plan.masked < 1 else {}
        parts = []
        for weights, times in ((merged.weights, self.plan.low), (bare, self.plan.high)):
            if weights and times:
                parts.append(self._part(weights, times, blocks, text))
            else:
                parts.append([torch.zeros(len(block.latents), len(times)) for block in blocks])
        return [torch.cat(pair, 1) for pair in zip(*parts, strict=True)]

    def errors(self, blocks: Sequence[Block]) -> list[Gains]:
        """The base's own mean squared error per picture and time."""
        parts = []
        for times in (self.plan.low, self.plan.high):
            found = []
            for block in blocks if times else ():
                rows = Rows.of(self.denoiser, self.plan, times, block)
                base = self._base(block, times).to(rows.target.device)
                error = (base - rows.target).square().flatten(1).mean(1)
                found.append(_per_time(error, block, self.plan.draws))
            parts.append(found or [torch.zeros(len(block.latents), 0) for block in blocks])
        return [torch.cat(pair, 1) for pair in zip(*parts, strict=True)]

    def _part(
        self,
        weights: Mapping[str, Tensor],
        times: tuple[float, ...],
        blocks: Sequence[Block],
        text: str | None,
    ) -> list[Gains]:
        shown = [self._text(block) if text is None else text for block in blocks]
        known = [
            self._base(block, times) if text is None else self._predicted(block, times, text)
            for block in blocks
        ]
        texts = list(dict.fromkeys(shown))
        found = []
        with self.denoiser.adapted(weights, texts) as predict:
            for block, kept, said in zip(blocks, known, shown, strict=True):
                rows = Rows.of(self.denoiser, self.plan, times, block)
                own = predict(rows.noised, rows.times, rows.text(texts.index(said)))
                base = kept.to(own.device)
                better = self._compared(base, own, rows.target)
                found.append(_per_time(better, block, self.plan.draws))
        return found

    def _compared(self, base: Tensor, own: Tensor, target: Tensor) -> Float[Tensor, " row"]:
        """One gain per row."""
        if self.plan.measure == "error":
            return ((base - own) * (base + own - 2 * target)).flatten(1).mean(1)
        change, lack = (own - base).flatten(1), (target - base).flatten(1)
        size = change.norm(dim=1) * lack.norm(dim=1)
        cosine: Tensor = (change * lack).sum(1) / size.clamp_min(1e-20)
        return cosine

    def _text(self, block: Block) -> str:
        return block.text if self.plan.named else ""

    def _base(self, block: Block, times: tuple[float, ...]) -> Tensor:
        """The base's predictions for a block; computed at most once."""
        if not times:
            return block.latents[:0]
        key = self._key(block, times)
        if key not in self.base:
            file = self.folder / f"{key}.safetensors" if self.folder else None
            if file is not None and file.is_file():
                self.base[key] = read(file)["predictions"]
            else:
                found = self._predicted(block, times, self._text(block))
                self.base[key] = found
                if file is not None:
                    files.save_tensors(file, {"predictions": found})
        return self.base[key]

    def _predicted(self, block: Block, times: tuple[float, ...], text: str) -> Tensor:
        rows = Rows.of(self.denoiser, self.plan, times, block)
        with self.denoiser.adapted({}, [text]) as predict:
            return predict(rows.noised, rows.times, rows.text(0)).cpu()

    def _key(self, block: Block, times: tuple[float, ...]) -> str:
        plan = (times, self.plan.draws, self.plan.seed, self._text(block))
        digest = hashlib.sha256(f"{self.denoiser.identity}|{plan}|".encode())
        digest.update(f"{tuple(block.latents.shape)}|".encode())
        digest.update(block.latents.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def read(file: Path) -> dict[str, Tensor]:
    """What was written."""
    found: dict[str, Tensor] = load_file(file)
    return found


def _per_time(values: Float[Tensor, " row"], block: Block, draws: int) -> Gains:
    """Means over draws, per picture and time."""
    return values.reshape(len(block.latents), -1, draws).mean(2).cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A block at every time and draw of a plan: what goes into one forward.

    Attributes:
        noised: x_t per row; rows run over pictures, then times, then draws.
        times: timestep per row.
        target: what should be predicted per row.
    """

    noised: Float[Tensor, "row channel height width"]
    times: Tensor
    target: Float[Tensor, "row channel height width"]

    @classmethod
    def of(cls, denoiser: Denoiser, plan: Plan, times: tuple[float, ...], block: Block) -> Rows:
        """Noise the pictures of a block; the same noise for every picture."""
        clean = block.latents.float()
        steps = [min(round(time * denoiser.steps), denoiser.steps - 1) for time in times]
        drawn = [_noise(plan, step, clean.shape[1:]) for step in steps]
        noise = torch.cat(drawn).to(clean.device) if drawn else clean[:0]
        at = torch.tensor(steps, dtype=torch.long, device=clean.device)
        at = at.repeat_interleave(plan.draws)
        x = clean.repeat_interleave(len(at), 0)
        e, t = noise.repeat(len(clean), 1, 1, 1), at.repeat(len(clean))
        signal, share = (level.reshape(-1, 1, 1, 1) for level in denoiser.levels(t))
        return cls(noised=signal * x + share * e, times=t, target=denoiser.target(x, e, t))

    def text(self, number: int) -> Tensor:
        """The number of a text for every row."""
        return torch.full((len(self.times),), number, dtype=torch.long, device=self.times.device)


def _noise(plan: Plan, step: int, shape: tuple[int, ...]) -> Tensor:
    """The noises of one timestep; the same whatever else is measured."""
    generator = torch.Generator().manual_seed(plan.seed * 100_003 + step)
    return torch.randn(plan.draws, *shape, generator=generator)
