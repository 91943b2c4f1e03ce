"""Before the first step: encode the concepts of a call and spread them over its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tadasu.backends.diffusers.attach_context import Rewritten, rewrite
from tadasu.backends.diffusers.encoded import Encoded
from tadasu.backends.diffusers.families import Family
from tadasu.backends.diffusers.families_text import Conditioning, PerEncoder
from tadasu.backends.diffusers.plan import Layer, Record, texts_of
from tadasu.errors import BadInput
from tadasu.guidance.safree import Safree

Texts = tuple[tuple[str, float], ...]


#: Arguments of a pipeline's call that say how many pictures it makes.
PROMPTS = ("prompt", "class_labels", "prompt_embeds")


@dataclass(eq=False, kw_only=True)
class Active:
    """One rule during one run.

    Attributes:
        layer: what was attached.
        texts: per prompt the texts to condition on, each with its strength.
        weights: strength per concept and image, on the CPU: they decide which rows there are.
        placed: the same on the denoiser's device, from the first step on.
        own: per image the text of each of its concepts.
        encoded: texts as conditioning.
        state: the rule's state.
        rows: this rule's rows at each step so far.
        rewritten: new context per image, for rules that work on the context.
        chosen: per image the texts that are left after `narrow`; None before it.
        acted: per image the number of steps on which the rule acted on it.
    """

    layer: Layer
    texts: tuple[Texts, ...]
    weights: Tensor
    own: list[tuple[str, ...]]
    encoded: Encoded
    placed: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    state: Any = None
    rows: list[int] = field(default_factory=list)
    rewritten: dict[int, Rewritten] = field(default_factory=dict)
    chosen: tuple[tuple[str, ...], ...] | None = None
    acted: Counter[int] = field(default_factory=Counter)

    @property
    def idle(self) -> bool:
        """Whether the rule has nothing to do for any image."""
        return self.layer.rule.needs != "nothing" and not bool(self.weights.any())

    def conditioning(self, concept: int, image: int) -> Conditioning:
        """What the row of a concept and an image is conditioned on."""
        return self.encoded.of(self.own[image][concept])

    def record(self, rows: tuple[int, ...], scale: float, steps: int) -> Record:
        """What ran so far, in that many steps."""
        return Record(
            rule=self.layer.rule.name,
            parameters=self.layer.rule.parameters(),
            concepts=tuple(tuple(text for text, _ in texts) for texts in self.texts),
            strengths=tuple(tuple(strength for _, strength in texts) for texts in self.texts),
            guidance_scale=scale,
            rows=rows,
            concept_rows=tuple(self.rows),
            chosen=self.chosen,
            steps=steps,
            acted=tuple(self.acted[image] for image in range(self.weights.shape[1])),
        )


def prompt_count(call: Mapping[str, Any]) -> int:
    """Number of prompts (or class labels) in a call of a pipeline."""
    for name in PROMPTS:
        value = call.get(name)
        if isinstance(value, str):
            return 1
        if value is not None:
            return len(value)
    raise BadInput("The pipeline was called without a prompt.")


def activate(
    pipe: Any,
    family: Family,
    layer: Layer,
    call: Mapping[str, Any],
    copies: int,
    *,
    lasting: bool = True,
) -> Active:
    """Encode the concepts of a layer and spread them over the images of a call.

    Args:
        pipe: the pipeline.
        family: how it works.
        layer: the attached rule with its concepts.
        call: the arguments of the call.
        copies: images per prompt.
        lasting: as for `Encoded`.
    """
    asked = layer.asked(prompt_count(call))
    texts = tuple(
        _joined(
            layer,
            call,
            prompt,
            tuple((text, s) for concept, s in pairs for text in texts_of(layer.rule, concept)),
        )
        for prompt, pairs in enumerate(asked)
    )
    images = [items for items in texts for _ in range(copies)]
    weights = torch.zeros(max(map(len, images), default=0), len(images))
    encoded = Encoded(pipe, family, call, lasting=lasting)
    for image, items in enumerate(images):
        for concept, (text, strength) in enumerate(items):
            weights[concept, image] = strength
            if strength > 0 and layer.rule.needs not in ("nothing", "context"):
                if layer.rule.nearest_only and family.context:  # few of many will be looked at
                    encoded.sum(text)
                else:
                    encoded.of(text)
    own = [tuple(text for text, _ in items) for items in images]
    return Active(layer=layer, texts=texts, weights=weights, own=own, encoded=encoded)


def _joined(layer: Layer, call: Mapping[str, Any], prompt: int, items: Texts) -> Texts:
    """The texts of one prompt's rows: one text for a rule that joins its concepts."""
    if layer.rule.needs not in ("merged", "attention") or not items:
        return items
    strength = max(strength for _, strength in items)
    text = ", ".join(text for text, own in items if own > 0 or strength == 0)
    if layer.rule.replaces_unconditional and strength > 0:
        text = _after_own_negative(call, prompt, text)
    return ((text, strength),)


def _after_own_negative(call: Mapping[str, Any], prompt: int, text: str) -> str:
    """The user's own negative prompt followed by the concepts, for each encoder its own."""
    if call.get("negative_prompt_embeds") is not None:
        raise BadInput(
            "This rule replaces the unconditional text, but the call brings its own "
            "negative_prompt_embeds. Give negative_prompt as text, or use another rule."
        )
    names = ("negative_prompt", "negative_prompt_2", "negative_prompt_3")
    given = [_own_text(call.get(name), prompt) for name in names]
    texts = [", ".join(part for part in (own or given[0], text) if part) for own in given]
    return PerEncoder(*texts) if any(given[1:]) else texts[0]


def _own_text(given: Any, prompt: int) -> str | None:
    """One prompt's text among those of a call."""
    if isinstance(given, list | tuple):
        return str(given[prompt] if len(given) > 1 else given[0])
    return None if given is None else str(given)


def narrow(active: Active, found: Tensor) -> Tensor:
    """Keep only each image's likest texts, where the rule looks at no more than that.

    Args:
        active: the rule with its concepts; its weights and texts are replaced.
        found: likeness per concept and image.

    Returns:
        The likeness of what is kept.
    """
    count, (concepts, images) = active.layer.rule.nearest_only, found.shape
    found = found.cpu()
    if not 0 < count < concepts or bool(found.isnan()[active.weights > 0].any()):
        return found
    order = torch.where(active.weights > 0, found, -torch.inf).argsort(dim=0, descending=True)
    kept = order[:count]
    texts, chosen = [], []
    for image in range(images):
        near = [int(at) for at in kept[:, image]]
        known = len(active.own[image])
        texts.append(tuple(active.own[image][at] if at < known else "" for at in near))
        chosen.append(
            tuple(active.own[image][at] for at in near if float(active.weights[at, image]) > 0)
        )
    active.own, active.chosen = texts, tuple(chosen)
    active.weights = active.weights.gather(0, kept)
    return found.gather(0, kept)


def rewritten(
    pipe: Any, family: Family, active: Active, call: Mapping[str, Any], prompts: Sequence[Tensor]
) -> dict[int, Rewritten]:
    """The new context of every image that a rule on the context concerns.

    Raises:
        BadInput: the family's text encoder is not one CLIP, or prompts came as embeddings.
    """
    rule = active.layer.rule
    if not isinstance(rule, Safree) or active.idle:
        return {}
    if family.name != "Stable Diffusion":
        raise BadInput(f"The rule safree does not support {family.name}.")
    given = call.get("prompt")
    texts = [given] if isinstance(given, str) or given is None else list(given)
    found = {}
    for image, context in enumerate(prompts):
        prompt = image * len(active.texts) // len(prompts)
        strength = float(active.weights[:, image].max())
        if strength > 0:
            concepts = [text for text, own in active.texts[prompt] if own > 0]
            found[image] = rewrite(pipe, rule, texts[prompt], context, concepts, strength)
    return found


def likeness(family: Family, active: Active, prompts: Sequence[Tensor]) -> Tensor:
    """Cosine between each image's prompt and each concept, seen from the empty text.

    With CLIP every token's state sums up the text so far, so the concept's last state is compared
    with each state of the prompt and the nearest counts: that finds one object in a scene. Other
    contexts are averaged over tokens. What the empty text has is taken off both sides, so that what
    all texts share does not count. Not-a-number where there is no text to compare.

    Args:
        family: how the pipeline works.
        active: the rule with its concepts.
        prompts: the context of each image's prompt, ``token width``.
    """
    found = torch.full_like(active.weights, torch.nan)
    if not family.context or not active.layer.rule.uses_likeness:
        return found
    encoded = active.encoded
    for image, context in enumerate(prompts):
        places = active.weights[:, image].nonzero().flatten().tolist()
        if not places:
            continue
        own = context.float()
        zero = encoded.sum("").to(own.device)
        sums = torch.stack([encoded.sum(active.own[image][at]) for at in places]).to(own.device)
        seen = own[1:] if encoded.stepwise else own.mean(0, keepdim=True)
        cosine = _unit(seen - zero) @ _unit(sums - zero).T
        found[places, image] = cosine.amax(0).to(found.device)
    return found


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; the zero row stays."""
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)
    return unit
