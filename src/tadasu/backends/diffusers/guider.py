"""The same rules as guiders of diffusers' modular pipelines.

Standard pipelines take no guider, so `attach` wraps their denoiser. Modular pipelines have a
component named ``guider``; this one asks for the concepts' predictions beside the conditional and
the unconditional one. It needs diffusers 0.36 or later, where guiders got
``prepare_inputs_from_block_state``.

    pipe.update_components(guider=guider("sld", concepts, scheduler=pipe.scheduler))

A concept's prediction is run only at the steps where the rule wants it. What a rule wants may hang
on the latents, which a guider first sees when the conditional prediction is made; so the list of
batches grows while the block goes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tadasu.backends.diffusers.noise import Level, level, numbers
from tadasu.backends.diffusers.plan import check_strength
from tadasu.backends.diffusers.rows import stacked
from tadasu.errors import BadInput, MissingPart, RunFailed
from tadasu.guidance.registry import parse
from tadasu.guidance.rule import Predictions, Rule, Start, Step

#: What modular denoiser blocks call the noisy latents, besides passing them first.
_LATENTS = ("sample", "hidden_states", "x")


def guider(
    rule: Rule[Any] | str,
    concepts: Sequence[Mapping[str, Tensor]],
    *,
    scheduler: Any,
    guidance_scale: float = 7.5,
    strength: float | Sequence[float] = 1.0,
    tokens: bool = False,
) -> Any:
    """A guider for a modular pipeline that steers away from concepts.

    Args:
        rule: a rule or its name.
        concepts: per concept the fields that differ from the prompt's, as the denoiser block names
            them, each with a first axis of length 1: for SDXL ``prompt_embeds`` and
            ``text_embeds``, for Qwen-Image ``encoder_hidden_states`` and its mask.
        scheduler: the pipeline's scheduler, for noise levels and the prediction type.
        guidance_scale: s_g, above 1.
        strength: factor on the rule's effect, one number or one per concept.
        tokens: True if latents are ``batch token channel``.

    Raises:
        MissingPart: diffusers is older than 0.36.
        BadInput: no concepts, a guidance scale of 1 or less, or strengths of another number.
    """
    from diffusers.guiders.guider_utils import BaseGuidance

    if not hasattr(BaseGuidance, "prepare_inputs_from_block_state"):
        raise MissingPart("Guiders of modular pipelines need diffusers 0.36 or later.")
    found = parse(rule) if isinstance(rule, str) else rule
    if found.needs not in ("merged", "each"):
        raise BadInput(
            f"The rule {found.name} takes no concepts' predictions; a guider needs them."
        )
    if guidance_scale <= 1:
        raise BadInput(f"guidance_scale={guidance_scale:g}: guidance needs a scale above 1.")
    if not concepts or (found.needs == "merged" and len(concepts) > 1):
        wanted = "one text for all concepts" if found.needs == "merged" else "at least one concept"
        raise BadInput(f"The rule {found.name} needs {wanted}; {len(concepts)} were given.")
    strengths = [strength] * len(concepts) if isinstance(strength, int | float) else [*strength]
    if len(strengths) != len(concepts):
        raise BadInput(f"{len(strengths)} strengths were given for {len(concepts)} concepts.")
    for value in strengths:
        check_strength(value)
    core = _Core(found, list(concepts), strengths, scheduler, guidance_scale, tokens)
    return _guider_class(BaseGuidance)(core)


class _Core:
    """A rule, its concepts, and the state of the run: all that is not diffusers."""

    def __init__(
        self,
        rule: Rule[Any],
        concepts: list[Mapping[str, Tensor]],
        strengths: list[float],
        scheduler: Any,
        scale: float,
        tokens: bool,
    ) -> None:
        self.rule, self.concepts, self.strengths = rule, concepts, strengths
        self.scheduler, self.scale, self.tokens = scheduler, scale, tokens
        self.latents: Tensor | None = None
        self.state: Any = None
        self.index = 0
        self.count = 1
        self.rows: list[int] = []
        self._wanted: Tensor | None = None

    def begin(self, index: int, count: int) -> None:
        """A new step; the rule starts anew at step 0."""
        self.index, self.count, self.latents, self._wanted = index, count, None, None
        if index == 0:
            self.state, self.rows = None, []

    def wants(self) -> list[int]:
        """Which concepts this step predicts for some image; asked once the latents were seen.

        Raises:
            RunFailed: the latents were not seen.
        """
        if self._wanted is None:
            step, _, latents = self._here()
            weights = self._weights(latents)
            if self.index == 0:
                unknown = torch.full_like(weights, torch.nan)
                self.state = self.rule.start(
                    Start(
                        count=self.count,
                        weights=weights.to(latents.device),
                        latents=latents,
                        likeness=unknown.to(latents.device),
                    )
                )
            self._wanted = self.rule.wants(step, self.state, weights) & (weights > 0)
            self.rows.append(int(self._wanted.any(1).sum()))
        return self._wanted.any(1).nonzero().flatten().tolist()

    def guide(
        self, conditional: Tensor, unconditional: Tensor, concepts: Mapping[int, Tensor]
    ) -> Tensor:
        """The guided prediction in the model's own space.

        Args:
            conditional: the prompt's prediction.
            unconditional: that of the empty text.
            concepts: that of each concept that this step wants, by its number.

        Raises:
            RunFailed: the latents were not seen, or the result is not finite.
        """
        step, at, latents = self._here()
        places = self.wants()
        if sorted(concepts) != places or self._wanted is None:
            raise RunFailed(
                f"The rule {self.rule.name} wants the concepts {places} at step {step.index + 1}, "
                f"but the denoiser's block brought {sorted(concepts)}."
            )
        noise_u = at.to_noise(self._canonical(unconditional), latents)
        noise_p = at.to_noise(self._canonical(conditional), latents)
        noise_c = noise_u.expand(len(self.concepts), *noise_u.shape).clone()
        wanted = self._wanted.to(latents.device)
        for number, output in concepts.items():
            found = at.to_noise(self._canonical(output), latents)
            mask = wanted[number].reshape(-1, *(1,) * (found.ndim - 1))
            noise_c[number] = torch.where(mask, found, noise_u)
        predictions = Predictions(
            unconditional=noise_u,
            prompt=noise_p,
            concepts=noise_c,
            evaluated=wanted,
            weights=self._weights(latents).to(latents.device),
            latents=latents,
        )
        guided, self.state = self.rule.step(predictions, step, self.state)
        if not torch.isfinite(guided).all():
            raise RunFailed(
                f"Rule {self.rule.name}, step {self.index + 1} of {self.count}: the guided "
                "prediction is not finite, so the image is withheld."
            )
        return self._back(unconditional, guided - noise_u, at)

    def _here(self) -> tuple[Step, Level, Tensor]:
        """Where the run is, and its latents as rules see them."""
        if self.latents is None:
            raise RunFailed("The guider never saw the denoiser's latents; nothing was guided.")
        at = level(self.scheduler, self.index, self._timestep())
        step = Step(
            index=self.index,
            count=self.count,
            guidance_scale=self.scale,
            signal=at.signal,
            noise=at.noise,
        )
        return step, at, self._canonical(self.latents)

    def _weights(self, latents: Tensor) -> Tensor:
        weights = torch.tensor(self.strengths, dtype=torch.float32)
        return weights[:, None].repeat(1, len(latents))

    def _timestep(self) -> float:
        known = numbers(self.scheduler.timesteps)
        return known[min(self.index, len(known) - 1)]

    def _canonical(self, rows: Tensor) -> Tensor:
        rows = rows.float()
        return rows.transpose(1, 2) if self.tokens else rows

    def _back(self, unconditional: Tensor, difference: Tensor, at: Level) -> Tensor:
        moved = at.to_output(difference)
        moved = moved.transpose(1, 2) if self.tokens else moved
        return (unconditional.float() + moved).to(unconditional.dtype)


class _Batches(list[Any]):
    """Prompt and unconditional batch; the concepts' follow when the first two have run."""

    def __init__(self, first: list[Any], more: Callable[[], list[Any]]) -> None:
        super().__init__(first)
        self._more: Callable[[], list[Any]] | None = more

    def __iter__(self) -> Iterator[Any]:
        yield from list.__iter__(self[:])
        if self._more is not None:
            more, self._more = self._more(), None
            self.extend(more)
            yield from more


def _guider_class(base: type) -> type:
    """A guider class on top of the installed diffusers' base class."""

    class ConceptGuider(base):  # type: ignore[misc]
        """Classifier-free guidance with concepts to steer away from."""

        _input_predictions: list[str]

        def __init__(self, core: _Core) -> None:
            self._input_predictions = [
                "pred_cond",
                "pred_uncond",
                *(f"pred_concept_{number}" for number in range(len(core.concepts))),
            ]
            super().__init__()
            self.register_to_config(
                rule=core.rule.name, guidance_scale=core.scale, **core.rule.parameters()
            )
            self._core = core
            self._hook: Any = None

        @property
        def concept_rows(self) -> tuple[int, ...]:
            """Concept predictions at each step of the latest run."""
            return tuple(self._core.rows)

        @property
        def is_conditional(self) -> bool:
            """Every batch but the second is conditioned on a text."""
            return bool(self._count_prepared != 2)

        @property
        def num_conditions(self) -> int:
            """Prompt, unconditional, and one for each concept that this step wants."""
            seen = self._core.latents is not None
            return 2 + len(self._core.wants() if seen else self._core.concepts)

        def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
            """Note where the run is; the rule starts anew at step 0."""
            super().set_state(step, num_inference_steps, timestep)
            self._core.begin(step, num_inference_steps)

        def prepare_models(self, denoiser: torch.nn.Module) -> None:
            """Look at the latents that go into the denoiser."""
            super().prepare_models(denoiser)

            def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                given = next((kwargs[name] for name in _LATENTS if name in kwargs), None)
                seen = stacked(args[0] if given is None else given)
                self._core.latents = seen.squeeze(2) if seen.ndim == 5 else seen

            self._hook = denoiser.register_forward_pre_hook(look, with_kwargs=True)

        def cleanup_models(self, denoiser: torch.nn.Module) -> None:
            """Stop looking."""
            if self._hook is not None:
                self._hook.remove()
            self._hook = None

        def prepare_inputs(self, data: Any) -> list[Any]:
            """One batch per prediction, for blocks that pass tensors."""
            return self._batches(lambda at, name: self._prepare_batch(data, at, name))

        def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
            """One batch per prediction, for blocks that pass the names of fields."""
            return self._batches(
                lambda at, name: self._prepare_batch_from_block_state(input_fields, data, at, name)
            )

        def _batches(self, prepare: Callable[[int, str], Any]) -> list[Any]:
            def wanted() -> list[Any]:
                return [concept(number) for number in self._core.wants()]

            def concept(number: int) -> Any:
                batch = prepare(0, f"pred_concept_{number}")
                for name, value in self._core.concepts[number].items():
                    setattr(batch, name, _like(value, getattr(batch, name)))
                return batch

            return _Batches([prepare(0, "pred_cond"), prepare(1, "pred_uncond")], wanted)

        def forward(self, pred_cond: Tensor, pred_uncond: Tensor, **concepts: Tensor) -> Any:
            """The guided prediction; the conditional one goes along, some blocks need it."""
            from diffusers.guiders.guider_utils import GuiderOutput

            numbered = {int(name.rpartition("_")[2]): value for name, value in concepts.items()}
            guided = self._core.guide(pred_cond, pred_uncond, numbered)
            return GuiderOutput(pred=guided, pred_cond=pred_cond, pred_uncond=pred_uncond)

    return ConceptGuider


def _like(value: Tensor, prompt: Any) -> Any:
    """A concept's field for as many images as the prompt's."""
    if isinstance(prompt, list):
        return [value[0].to(part) for part in prompt]
    return value.to(prompt).expand(len(prompt), *value.shape[1:])
