"""One call of an attached pipeline: from its first denoising step to its last.

The run holds what acts on this call and nothing else: rules with their states, and edits. It counts
the steps on which they acted, and refuses to end where that were fewer than the pipeline made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tadasu.backends.diffusers.attach_attention import cross_attention, joint_attention
from tadasu.backends.diffusers.autoencoder import decoded
from tadasu.backends.diffusers.context.moved import Mover, Moves
from tadasu.backends.diffusers.families import family_of
from tadasu.backends.diffusers.noise import Level, level, numbers
from tadasu.backends.diffusers.parts import Plain, by_name, caches_of, denoiser_of, unwrapped
from tadasu.backends.diffusers.plan import Layer
from tadasu.backends.diffusers.prepare import (
    PROMPTS,
    Active,
    activate,
    likeness,
    narrow,
    prompt_count,
    rewritten,
)
from tadasu.backends.diffusers.rows import Row, extend, first_of, stacked, with_first
from tadasu.backends.diffusers.turn import Claim
from tadasu.errors import BadInput, RunFailed
from tadasu.guidance.nag import NormalizedAttentionGuidance
from tadasu.guidance.rule import Predictions, Start, Step

#: The denoiser's own forward, from its arguments by name.
Inner = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the rules want at one step.

    Attributes:
        step: where in the schedule.
        at: the noise level.
        latents: x_t as ``batch channel *space`` in float32.
        wanted: per rule which (concept, image) it wants.
        appended: rows to add to the conditional forward, in the order of ``wanted``.
        replaced: unconditional rows that a concept takes over.
        rewritten: conditional rows whose text was changed.
    """

    step: Step
    at: Level
    latents: Tensor
    wanted: tuple[Tensor, ...]
    appended: tuple[Row, ...]
    replaced: tuple[Row, ...]
    rewritten: tuple[Row, ...]


class Run:
    """Holds the states of everything attached while a pipeline's call lasts.

    Args:
        pipe: the pipeline that was called.
        layers: rules, the outermost first; with one, the pipeline must be of a known family.
        mover: edits.
        call: the arguments of the call.
        claim: the run's claim on the pipeline's parts.
    """

    def __init__(
        self,
        pipe: Any,
        layers: tuple[Layer, ...],
        mover: Mover,
        call: Mapping[str, Any],
        claim: Claim,
    ) -> None:
        self._pipe, self._mover, self._call, self._claim = pipe, mover, call, claim
        self._layers = sorted(layers, key=lambda layer: layer.rule.quality)
        self._denoiser: Any = denoiser_of(pipe) if layers or mover else None
        self._active: list[Active] = []
        self._index = 0
        self._scale = 0.0
        self._rows: list[int] = []
        self._half: tuple[_Asked, Tensor] | None = None
        self._schedule: tuple[Any, Any] | None = None
        self._place: int | None = None
        self._caches: list[Any] = []
        self._images = 0
        self._offset: int | None = None
        self._looks: list[tuple[str, int, Tensor]] = []
        self.moves: Moves | None = None

    def begin(self) -> None:
        """Encode the texts of all rules.

        Raises:
            BadInput: the call cannot be steered.
        """
        copies = self._call.get("num_images_per_prompt") or 1
        if self._layers or any(self._call.get(name) is not None for name in PROMPTS):
            self._images = prompt_count(self._call) * copies
        if self._layers:
            self._caches = caches_of(self._denoiser)
            self._family = family_of(self._pipe)
            lasting = not self._mover.layers
            self._active = [
                activate(self._pipe, self._family, layer, self._call, copies, lasting=lasting)
                for layer in self._layers
            ]

    def close(self) -> None:
        """Write down what ran."""
        for active in self._active:
            active.layer.record = active.record(tuple(self._rows), self._scale, self._index)
        if self._mover:
            self.moves = self._mover.record(self._images)

    def check(self) -> None:
        """Refuse to hand out pictures of a run in which something did not act on every step.

        Raises:
            RunFailed: says what did not act, and on how many steps it did.
        """
        if self._denoiser is None:
            return
        self._mover.check()
        if not self._layers and not self._mover.chains:
            return
        self._check_finite()
        names = [layer.rule.name for layer in self._layers] or ["the edit"]
        if denoiser_of(self._pipe) is not self._denoiser:
            raise RunFailed(
                f"The pipeline's denoiser was replaced while it ran, so {', '.join(names)} did not "
                "act on every step and the picture is withheld. Replace it between two calls."
            )
        self._check_schedule()
        made = self._index if self._layers else self._mover.calls
        stopped = bool(getattr(self._pipe, "_interrupt", False)) and made
        if made < self._count() and not stopped:
            raise RunFailed(
                f"{', '.join(names)} acted on {made} of {self._count()} steps, so the picture is "
                "withheld: the denoiser was called in a way that could not be seen. Call the "
                "pipeline's own denoiser, as a module."
            )

    def enter(self, module: Any, plain: Plain, args: Any, kwargs: Any) -> Any:
        """One call of the denoiser or of a text encoder within this run."""
        with self._claim.working():
            if unwrapped(module) is not unwrapped(self._denoiser):
                return self._mover.encode(plain, args, kwargs)
            self._check_schedule()
            arguments, again = by_name(module, plain, args, kwargs)
            own = len(arguments[self._family.sample]) if self._layers else None
            for cache in self._caches:  # its rows are other texts' than those of this call
                cache.reset_stateful_hooks(recurse=False)

            def inner(changed: dict[str, Any]) -> Any:
                return again(self._mover.move(changed, own) if self._mover.chains else changed)

            return self.forward(inner, arguments) if self._layers else inner(arguments)

    def _check_schedule(self) -> None:
        """Notice that somebody else stepped or set the scheduler of this run.

        Raises:
            RunFailed: the steps are no longer those of this run.
        """
        scheduler = getattr(self._pipe, "scheduler", None)
        now = scheduler, getattr(scheduler, "timesteps", None)
        if self._schedule is None:
            self._schedule = now
        place = getattr(scheduler, "step_index", None)
        place = getattr(scheduler, "counter", None) if place is None else place
        first = self._place
        if isinstance(place, int) and self._half is None and self._layers:
            first = place - self._index
            self._place = first if self._place is None else self._place
        same = all(this is before for this, before in zip(now, self._schedule, strict=True))
        if not same or first != self._place:
            raise RunFailed(
                "The pipeline's scheduler was set or stepped by something else while it ran, so "
                "the picture is withheld. Give every pipeline a scheduler of its own, and change "
                "it between two calls."
            )

    def forward(self, inner: Inner, arguments: dict[str, Any]) -> Any:
        """The denoiser's forward with the concepts' rows, its unconditional rows guided.

        Raises:
            BadInput: the call runs without classifier-free guidance.
            RunFailed: the rows are not what the family promises, or a prediction is not finite.
        """
        if any(arguments.get(name) is not None for name in self._family.aside):
            return inner(arguments)
        sample = stacked(arguments[self._family.sample])
        if any(active.layer.rule.needs == "attention" for active in self._active):
            return self._in_attention(inner, arguments, sample)
        two = self._family.rows == "two forwards"
        expected = self._images if two else 2 * self._images
        scale = self._guidance_scale()
        if len(sample) != expected:
            raise RunFailed(
                f"The denoiser was called with {len(sample)} rows where {expected} were expected "
                f"for {self._images} images with guidance, so nothing could be guided."
            )
        if two:
            return self._in_two(inner, arguments, sample, scale)
        return self._in_one(inner, arguments, sample, scale)

    def _in_one(self, inner: Inner, arguments: dict[str, Any], sample: Tensor, scale: float) -> Any:
        """Pipelines that send unconditional and conditional rows in one forward."""
        asked = self._ask(arguments, sample, scale)
        rows = (*asked.replaced, *asked.rewritten, *asked.appended)
        output = self._call_inner(inner, arguments, rows)
        if all(active.idle or active.rewritten for active in self._active):
            for active in self._active:
                if active.rewritten:
                    self._look(active, asked.step.index, stacked(first_of(output)))
            return output
        answer = stacked(first_of(output))
        first, second, extra = answer.tensor_split((self._images, 2 * self._images))
        if self._family.rows == "conditional first":
            return with_first(output, torch.cat([first, self._guide(asked, second, first, extra)]))
        return with_first(output, torch.cat([self._guide(asked, first, second, extra), second]))

    def _in_two(self, inner: Inner, arguments: dict[str, Any], sample: Tensor, scale: float) -> Any:
        """Pipelines that ask for the conditional rows first, then for the unconditional ones."""
        if self._half is None:
            asked = self._ask(arguments, sample, scale)
            output = self._call_inner(inner, arguments, asked.appended)
            answer = stacked(first_of(output))
            self._half = asked, answer
            return with_first(output, answer[: self._images]) if asked.appended else output
        (asked, answer), self._half = self._half, None
        output = self._call_inner(inner, arguments, asked.replaced)
        self._rows[-1] += self._images
        if all(active.idle for active in self._active):
            return output
        conditional, extra = answer.tensor_split((self._images,))
        unconditional = stacked(first_of(output))
        return with_first(output, self._guide(asked, unconditional, conditional, extra))

    def _in_attention(self, inner: Inner, arguments: dict[str, Any], sample: Tensor) -> Any:
        """Calls without guidance, steered inside the attention layers."""
        rule = self._active[0].layer.rule
        if len(self._active) > 1 or not isinstance(rule, NormalizedAttentionGuidance):
            raise BadInput("The rule nag works inside attention and cannot join other rules.")
        if not self._family.attention:
            raise BadInput(f"The rule nag does not support {self._family.name}.")
        if self._family.scale(self._pipe, self._call) is not None or len(sample) != self._images:
            raise BadInput(
                "The rule nag is for calls without classifier-free guidance. Give a guidance scale "
                "of 1 (or no true_cfg_scale), or use another rule."
            )
        active, denoiser = self._active[0], self._denoiser
        images = [] if active.idle else active.weights[0].nonzero().flatten().tolist()
        parts = [active.conditioning(0, image) for image in images]
        joint = self._family.attention == "joint"
        active.rows.append(len(images))
        active.acted.update(images)
        self._index += 1
        self._rows.append(len(sample) + (len(images) if joint else 0))
        if not images:
            return inner(arguments)
        weights = active.weights[0, images].to(sample.device)
        context = self._family.context
        if not joint:
            given = torch.cat([part[context] for part in parts])
            contexts = self._mover.rows("context", given)
            with cross_attention(denoiser, rule, images, contexts, weights):
                output = inner(arguments)
            self._look(active, len(self._rows) - 1, stacked(first_of(output)))
            return output
        kept = {context, *(self._family.masked or ())}
        rows = tuple(
            Row(
                source=image,
                target=None,
                conditioning={name: value for name, value in part.items() if name in kept},
            )
            for image, part in zip(images, parts, strict=True)
        )
        tokens = sample.shape[1]
        if not self._family.tokens:
            tokens = sample[0, 0].numel() // denoiser.config.patch_size**2
        with joint_attention(denoiser, rule, images, len(sample), tokens, weights):
            output = self._call_inner(inner, arguments, rows)
        self._look(active, len(self._rows) - 1, stacked(first_of(output)))
        return with_first(output, stacked(first_of(output))[: len(sample)])

    def _call_inner(self, inner: Inner, arguments: dict[str, Any], rows: tuple[Row, ...]) -> Any:
        if rows:
            arguments = extend(arguments, rows, self._family)
        return inner(arguments)

    def _guidance_scale(self) -> float:
        scale = self._family.scale(self._pipe, self._call)
        if scale is None or scale == 1:
            names = ", ".join(active.layer.rule.name for active in self._active)
            raise BadInput(
                f"The rule {names} steers between an unconditional and a conditional prediction, "
                "but this call runs without classifier-free guidance. Give a guidance scale above "
                "1 (Flux and Qwen-Image: true_cfg_scale above 1 and a negative_prompt), or use the "
                "rule nag."
            )
        self._scale = self._scale or scale
        return scale

    def _ask(self, arguments: dict[str, Any], sample: Tensor, scale: float) -> _Asked:
        """Ask every rule which predictions it wants at this step."""
        step, at = self._step(arguments, scale)
        latents = self._canonical(sample[: self._images])
        if step.index == 0:
            self._start(latents, step.count, arguments)
        self._index += 1
        appended: list[Row] = []
        replaced: list[Row] = []
        wanted: list[Tensor] = []
        guards = sum(not active.layer.rule.quality for active in self._active)
        for active in self._active:
            mask = self._mask(active, step)
            wanted.append(mask)
            pairs = mask.nonzero().tolist()
            active.rows.append(len(pairs))
            everywhere = range(self._images) if active.layer.rule.needs == "nothing" else ()
            active.acted.update([*{image for _, image in pairs}, *everywhere])
            for concept, image in pairs:
                alone = active.layer.rule.replaces_unconditional and guards == 1
                instead = alone and float(active.weights[concept, image]) == 1
                row = Row(
                    source=self._row(image, conditional=True),
                    target=self._row(image, conditional=False) if instead else None,
                    conditioning=active.conditioning(concept, image),
                )
                (replaced if instead else appended).append(row)
        self._rows.append(len(sample) + len(appended))
        return _Asked(
            step=step,
            at=at,
            latents=latents,
            wanted=tuple(wanted),
            appended=tuple(appended),
            replaced=tuple(replaced),
            rewritten=tuple(self._rewritten(step)),
        )

    def _rewritten(self, step: Step) -> Iterator[Row]:
        """Conditional rows whose text a rule changed, while it is to be used."""
        for active in self._active:
            for image, new in active.rewritten.items():
                over = step.index > 0 and step.begins_at(new.share) and new.share < 1
                if not new.share or over:  # a share above 0 is at least the first step
                    continue
                active.acted.update([image])
                row = self._row(image, conditional=True)
                yield Row(source=row, target=row, conditioning={self._family.context: new.states})

    def _row(self, image: int, conditional: bool) -> int:
        """Which row of the pipeline's own forward belongs to an image."""
        if self._family.rows == "two forwards":
            return image
        second = conditional == (self._family.rows == "unconditional first")
        return image + self._images * second

    def _step(self, arguments: Mapping[str, Any], scale: float) -> tuple[Step, Level]:
        number = self._timestep(arguments.get("timestep", 0))
        at = level(self._pipe.scheduler, self._index, number, self._family.sign)
        step = Step(
            index=self._index,
            count=self._count(),
            guidance_scale=scale,
            signal=at.signal,
            noise=at.noise,
        )
        return step, at

    def _timestep(self, given: Any) -> float:
        """The step's timestep; read from the device once a run, then counted on."""
        table = getattr(self._pipe.scheduler, "timesteps", None)
        if not isinstance(given, Tensor) or not isinstance(table, Tensor):
            return float(given if not isinstance(given, Tensor) else given.flatten()[0])
        known = numbers(table)
        if self._offset is not None and self._offset + self._index < len(known):
            return known[self._offset + self._index]
        value = float(given.flatten()[0])
        first = len(known) - self._count()
        if self._index == 0 and 0 <= first < len(known) and known[first] == value:
            self._offset = first
        return value

    def _count(self) -> int:
        """Number of steps of this run."""
        count = getattr(self._pipe, "_num_timesteps", None)
        if count is None:
            scheduler = self._pipe.scheduler
            count = len(scheduler.timesteps) - (getattr(scheduler, "begin_index", None) or 0)
        return int(count)

    def _start(self, latents: Tensor, count: int, arguments: Mapping[str, Any]) -> None:
        contexts = arguments.get(self._family.context, ())
        own = [self._row(image, conditional=True) for image in range(self._images)]
        prompts = [contexts[row] for row in own] if len(contexts) else []
        for active in self._active:
            found = likeness(self._family, active, prompts)
            found = narrow(active, found)
            active.placed = active.weights.to(latents.device)
            start = Start(
                count=count,
                weights=active.placed,
                latents=latents,
                likeness=found.to(latents.device),
                decode=self._decode if latents.ndim == 4 else None,
            )
            active.state = active.layer.rule.start(start)
            active.rewritten = rewritten(self._pipe, self._family, active, self._call, prompts)

    def _decode(self, latents: Tensor) -> Tensor:
        """Clean latents as pictures in [0, 1], differentiable."""
        return decoded(self._pipe.vae, latents)

    def _mask(self, active: Active, step: Step) -> Tensor:
        rule = active.layer.rule
        if active.idle or rule.needs in ("nothing", "context"):
            return torch.zeros_like(active.weights, dtype=torch.bool)
        return rule.wants(step, active.state, active.weights) & (active.weights > 0)

    def _canonical(self, rows: Tensor) -> Tensor:
        """Rows as ``batch channel *space`` in float32, without channels beyond the latents'."""
        rows = rows.float()
        rows = rows.transpose(1, 2) if self._family.tokens else rows
        return rows[:, : self._family.channels(self._pipe)]

    def _guide(
        self, asked: _Asked, unconditional: Tensor, conditional: Tensor, extra: Tensor
    ) -> Tensor:
        """The unconditional rows from which the pipeline's formula makes the guided prediction."""
        at, step, latents = asked.at, asked.step, asked.latents
        noise_u = at.to_noise(self._canonical(unconditional), latents)
        noise_p = at.to_noise(self._canonical(conditional), latents)
        scale, guided, prompt = step.guidance_scale, noise_p, noise_p
        source = [row.source % self._images for row in asked.appended]
        pool = list(at.to_noise(self._canonical(extra), latents[source]).unbind())
        replaced = {row.source % self._images for row in asked.replaced}
        for active, wanted in zip(self._active, asked.wanted, strict=True):
            if active.idle:
                continue
            concepts = noise_u.expand(len(active.weights), *noise_u.shape).clone()
            for concept, image in wanted.nonzero().tolist():
                if image not in replaced:
                    concepts[concept, image] = pool.pop(0)
            predictions = Predictions(
                unconditional=noise_u,
                prompt=prompt,
                concepts=concepts,
                evaluated=wanted.to(latents.device),
                weights=active.placed,
                latents=latents,
            )
            guided, active.state = active.layer.rule.step(predictions, step, active.state)
            self._look(active, step.index, noise_u, noise_p, concepts, result=guided)
            prompt = noise_u + (guided - noise_u) / scale
        wanted_u = (scale * noise_p - guided) / (scale - 1)
        return self._moved(unconditional, at.to_output(wanted_u - noise_u))

    def _moved(self, rows: Tensor, difference: Tensor) -> Tensor:
        """Unconditional rows with a difference added, for the images that some rule concerns."""
        concerned = torch.zeros(self._images, dtype=torch.bool)
        for active in self._active:
            concerned |= active.layer.rule.needs == "nothing" or active.weights.any(0)
        moved = rows.clone()
        view = moved.transpose(1, 2) if self._family.tokens else moved
        view = view[:, : difference.shape[1]]
        for image in concerned.nonzero().flatten().tolist():
            view[image] = (view[image].float() + difference[image]).to(rows.dtype)
        return moved

    def _look(
        self, active: Active, index: int, *given: Tensor, result: Tensor | None = None
    ) -> None:
        """Note whether a step's predictions are finite, without waiting for the device."""
        finite = torch.stack([torch.isfinite(tensor).all() for tensor in given]).all()
        after = finite if result is None else torch.isfinite(result).all()
        self._looks.append((active.layer.rule.name, index, torch.stack([finite, after])))
        if index + 1 >= self._count() and active is self._active[-1]:
            self._check_finite()  # before anything is made of the latents

    def _check_finite(self) -> None:
        """Withhold the pictures of a run with a step that was not finite; name rule and step.

        Raises:
            RunFailed: predictions, or what a rule made of them, were not finite.
        """
        if not self._looks:
            return
        noted, self._looks = self._looks, []
        looks = torch.stack([flags for _, _, flags in noted]).tolist()
        for (name, index, _), (given, result) in zip(noted, looks, strict=True):
            if given and result:
                continue
            culprit = "the rule's result is" if given else "the denoiser's predictions are"
            raise RunFailed(
                f"Rule {name}, step {index + 1} of {self._count()}: {culprit} not finite, so the "
                "image is withheld. In float16, try bfloat16 or float32."
            )
