"""Draws and judges pictures for the debias loop, on a pipeline, with the amounts found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image

from tadasu.backends.diffusers.context.apply import applied
from tadasu.editing.balance import Amounts
from tadasu.editing.edit import Edit
from tadasu.editing.make import Options, debias

#: Pictures to, for each, the attribute values that are seen in it.
Judge = Callable[[Sequence[Image.Image]], Sequence[frozenset[str]]]


@dataclass(frozen=True, kw_only=True)
class PipelineDraw:
    """What :meth:`tadasu.editing.balance.Loop.run` needs, made from a pipeline and a judge.

    Args:
        pipe: the model; it is left as it was.
        judge: sees attribute values in pictures.
        template: sentence that every concept is drawn in.
        prompts: sentences of concepts that need another one, such as ``an artist``.
        forms: per attribute value the text that stands for it, such as ``woman {}``; the value
            itself where none is given.
        guidance_scale: of classifier-free guidance; None is the pipeline's own.
        held: concepts that stay where they are as long as they have no amounts, drawn or not.
        options: how the edit is solved.
        steps: denoising steps.
        batch: pictures drawn together.
    """

    pipe: Any
    judge: Judge
    template: str = "a {}"
    prompts: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    guidance_scale: float | None = None
    held: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)
    steps: int = 20
    batch: int = 16

    def __call__(
        self, amounts: Amounts, concepts: Sequence[str], n: int, seed: int
    ) -> Mapping[str, Sequence[frozenset[str]]]:
        """Draw ``n`` pictures of each concept; picture i of every concept has seed ``seed + i``."""
        edit = self.edit(amounts, concepts) if amounts else None
        asked = [(concept, seed + i) for concept in concepts for i in range(n)]
        with applied(self.pipe, edit.maps) if edit else nullcontext():
            seen = [values for some in _parts(asked, self.batch) for values in self._judged(some)]
        return {c: seen[k * n : (k + 1) * n] for k, c in enumerate(concepts)}

    def edit(self, amounts: Amounts, concepts: Sequence[str] = ()) -> Edit:
        """The edit that these amounts make; the other and the held concepts stay where they are.

        They are moved by nothing instead of preserved: a row of the edit is met as closely as the
        solver can, a preserved text only as one of many, and neighbours of what is edited would
        drift with every change of its amounts.
        """
        values = {value for given in amounts.values() for value in given}
        still = dict.fromkeys((*self.held, *concepts))
        every = {concept: dict.fromkeys(values, 0.0) for concept in still} | dict(amounts)
        kept = tuple(text for text in self.options.preserve if text not in every)
        formed = {
            concept: {self.forms.get(value, value): amount for value, amount in given.items()}
            for concept, given in every.items()
        }
        return debias(self.pipe, formed, options=replace(self.options, preserve=kept))

    def _judged(self, asked: Sequence[tuple[str, int]]) -> Sequence[frozenset[str]]:
        made = self.pipe(
            [self.prompts.get(c, self.template.replace("{}", c)) for c, _ in asked],
            num_inference_steps=self.steps,
            generator=[torch.Generator().manual_seed(seed) for _, seed in asked],
            **({} if self.guidance_scale is None else {"guidance_scale": self.guidance_scale}),
        )
        return self.judge(made.images)


def _parts(asked: Sequence[tuple[str, int]], size: int) -> Iterator[Sequence[tuple[str, int]]]:
    for start in range(0, len(asked), size):
        yield asked[start : start + size]
