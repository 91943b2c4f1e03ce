"""A Stable Diffusion or SDXL pipeline as attacks see it: tokens in, losses of its denoiser out.

Whatever is on the pipeline (edits applied or folded, guidance attached) stays on and is
differentiated through. Noisy latents of pictures of the concept are shown to the denoiser in the
order of the sampler's schedule, so that guidance with a memory sees what it would see while
sampling. With guidance ε̂ and scale s, the conditional prediction that plain guidance would need
to end up at ε̂ is compared: ε_u + (ε̂ - ε_u) / s; without guidance that is the conditional
prediction itself, as in the papers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadasu.backends.diffusers.attach import running
from tadasu.backends.diffusers.attack_text import (
    CONTEXT,
    FAMILIES,
    XL,
    Rows,
    context_of,
    readers,
    rows_of,
    rows_of_texts,
    states_of,
    states_of_texts,
    table_of,
    unconditional,
    writable,
    written,
)
from tadasu.backends.diffusers.families import family_of
from tadasu.errors import BadInput

__all__ = [
    "Shown",
    "Victim",
    "context_of",
    "show",
    "states_of",
    "states_of_texts",
    "writable",
    "written",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Shown:
    """What an attack shows the denoiser: pictures of the concept at several noise levels.

    Attributes:
        prompts: what the plain model was asked.
        timesteps: in the order of sampling.
        noisy: x_t for each timestep.
        noise: what the model should predict for each timestep if it knew the picture: ε, or v.
        plain: what the plain model predicts for the prompts.
        scale: guidance scale of attached rules.
    """

    prompts: tuple[str, ...]
    timesteps: Int[Tensor, " step"]
    noisy: Float[Tensor, "step batch channel height width"]
    noise: Float[Tensor, "step batch channel height width"]
    plain: Float[Tensor, "step batch channel height width"]
    scale: float


def show(
    pipe: Any,
    prompts: Sequence[str],
    *,
    points: int = 4,
    steps: int = 20,
    guidance_scale: float = 7.5,
    seed: int = 0,
    latents: Float[Tensor, "batch channel height width"] | None = None,
) -> Shown:
    """Make what attacks show, with the plain pipeline.

    Args:
        pipe: a Stable Diffusion 1.x, 2.x or XL pipeline without any mitigation.
        prompts: they ask for the concept.
        points: noise levels, 1 and more; guidance that looks at several steps before it acts
            needs more than these.
        steps: of sampling the pictures, where no latents are given.
        guidance_scale: for the pictures, and of the rules that are attached later; above 1.
        seed: makes pictures and noise repeatable.
        latents: pictures of one's own, encoded; None lets the pipeline draw the prompts.

    Raises:
        BadInput: another family of pipelines, no prompts, or numbers out of range.
    """
    _check(pipe)
    if not prompts or points < 1 or not guidance_scale > 1:
        raise BadInput("An attack needs prompts, at least one point and a scale above 1.")
    if latents is None:
        seeds = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
        latents = pipe(
            list(prompts),
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=seeds,
            output_type="latent",
        ).images
    assert latents is not None
    with _timesteps(pipe, points) as timesteps, torch.no_grad():
        chance = torch.Generator().manual_seed(seed)
        shape = (points, *latents.shape)
        drawn = torch.randn(shape, generator=chance).to(latents)
        signal = pipe.scheduler.alphas_cumprod[timesteps.round().long().cpu()].to(latents)
        kept, lost = (x.sqrt().reshape(-1, 1, 1, 1, 1) for x in (signal, 1 - signal))
        noisy = kept * latents + lost * drawn
        context = rows_of_texts(pipe, prompts)
        plain = torch.stack(
            [_asked(pipe, x, t, context) for x, t in zip(noisy, timesteps, strict=True)]
        )
        velocity = pipe.scheduler.config.prediction_type == "v_prediction"
        wanted = kept * drawn - lost * latents if velocity else drawn
    return Shown(
        prompts=tuple(prompts),
        timesteps=timesteps,
        noisy=noisy,
        noise=wanted,
        plain=plain,
        scale=guidance_scale,
    )


class Victim:
    """A pipeline with its mitigations on, and what it is shown.

    Args:
        pipe: the pipeline; what is attached while losses are asked for is attacked.
        shown: from `show`, of the same pipeline.
    """

    def __init__(self, pipe: Any, shown: Shown) -> None:
        _check(pipe)
        self._pipe, self._shown = pipe, shown
        self._unconditional: Tensor | None = None
        self.table: Float[Tensor, "token width"] = table_of(pipe)
        self.allowed: Bool[Tensor, " token"] = writable(pipe.tokenizer).to(self.table.device)

    @property
    def batch(self) -> int:
        """How many prompts are attacked at once."""
        return len(self._shown.prompts)

    def against_plain(self, rows: Float[Tensor, "batch length width"]) -> Float[Tensor, " batch"]:
        """Mean square distance to what the plain model predicts; the rows are the whole prompt."""
        return self._loss(rows_of(self._pipe, rows), self._shown.plain)

    def against_noise(self, rows: Float[Tensor, "batch length width"]) -> Float[Tensor, " batch"]:
        """Mean square distance to the noise in the pictures; the rows stand before the prompt."""
        return self._loss(rows_of(self._pipe, rows, self._shown.prompts), self._shown.noise)

    def _loss(self, context: Rows, target: Tensor) -> Tensor:
        predicted = self._predictions(context)
        return (predicted.float() - target.float()).pow(2).flatten(2).mean(-1).mean(0)

    def _predictions(self, context: Rows) -> Tensor:
        shown, scale = self._shown, self._shown.scale
        call = {"prompt": None, "prompt_embeds": context[CONTEXT], "guidance_scale": scale}
        empty = unconditional(self._pipe, context)
        found = []
        with _timesteps(self._pipe, len(shown.timesteps), scale) as timesteps:
            if self._unconditional is None:
                with torch.no_grad(), running(self._pipe, call, rules=False):
                    each = zip(shown.noisy, timesteps, strict=True)
                    self._unconditional = torch.stack(
                        [_asked(self._pipe, x, t, empty) for x, t in each]
                    )
            with running(self._pipe, call) as guided:
                for at, (x, t) in enumerate(zip(shown.noisy, timesteps, strict=True)):
                    if not guided:
                        found.append(_asked(self._pipe, x, t, context))
                        continue
                    both = {name: torch.cat([empty[name], context[name]]) for name in context}
                    first, second = _asked(self._pipe, torch.cat([x, x]), t, both).chunk(2)
                    known = self._unconditional[at]
                    found.append(known + (first + scale * (second - first) - known) / scale)
        return torch.stack(found)


@contextmanager
def _timesteps(pipe: Any, points: int, scale: float = 0.0) -> Iterator[Tensor]:
    """The schedule of a short run, with what a pipeline knows about itself while it runs."""
    scheduler = pipe.scheduler
    pipe.scheduler = type(scheduler).from_config(scheduler.config)
    names = ("_guidance_scale", "_num_timesteps", "_cross_attention_kwargs", "_clip_skip")
    before = {name: vars(pipe)[name] for name in names if name in vars(pipe)}
    try:
        pipe.scheduler.set_timesteps(points, device=pipe._execution_device)
        pipe._guidance_scale, pipe._num_timesteps = scale, points
        pipe._cross_attention_kwargs = pipe._clip_skip = None
        yield pipe.scheduler.timesteps
    finally:
        pipe.scheduler = scheduler
        for name in names:
            vars(pipe).pop(name, None)
        vars(pipe).update(before)


def _asked(pipe: Any, latents: Tensor, timestep: Tensor, context: Rows) -> Tensor:
    """The denoiser's output; its latents have the scale of training."""
    own = latents.to(pipe.unet.dtype)
    arguments: dict[str, Any] = {}
    for name, value in context.items():
        place, _, inner = name.partition(".")
        if inner:
            arguments.setdefault(place, {})[inner] = value.to(own.dtype)
        else:
            arguments[place] = value.to(own.dtype)
    if family_of(pipe).name == XL:  # the whole of a picture of this size, uncropped
        height, width = (float(side * pipe.vae_scale_factor) for side in latents.shape[-2:])
        sizes = torch.tensor([height, width, 0.0, 0.0, height, width]).to(own)
        arguments["added_cond_kwargs"]["time_ids"] = sizes.expand(len(own), -1)
    answer: Tensor = pipe.unet(own, timestep, return_dict=False, **arguments)[0]
    return answer


def _check(pipe: Any) -> None:
    family = family_of(pipe)
    if family.name not in FAMILIES:
        raise BadInput(
            "Attacks through the denoiser know Stable Diffusion 1.x, 2.x and XL; this is "
            f"{family.name}."
        )
    readers(pipe)
    if not hasattr(pipe.scheduler, "alphas_cumprod"):
        raise BadInput(f"The scheduler {type(pipe.scheduler).__name__} has no noise levels.")
