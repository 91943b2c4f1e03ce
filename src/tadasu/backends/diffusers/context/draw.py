"""Pictures with and without an edit, from the same seeds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from PIL import Image

from tadasu.backends.diffusers.context.apply import applied
from tadasu.editing.edit import Edit
from tadasu.editing.preview import Pair


def pairs(
    pipe: Any,
    edit: Edit,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    restricted: Collection[str] = (),
    steps: int | None = None,
) -> list[Pair]:
    """Draw every prompt from every seed twice.

    Args:
        pipe: the model, without the edit.
        edit: attached for the second picture only.
        prompts: what to draw.
        seeds: each gives one pair per prompt.
        restricted: prompts whose pictures are blurred on the page.
        steps: denoising steps; None is the pipeline's own.
    """
    wanted = [(prompt, seed) for prompt in prompts for seed in seeds]
    before = [_draw(pipe, prompt, seed, steps) for prompt, seed in wanted]
    with applied(pipe, edit.maps):
        after = [_draw(pipe, prompt, seed, steps) for prompt, seed in wanted]
    return [
        Pair(prompt=prompt, seed=seed, before=one, after=other, restricted=prompt in restricted)
        for (prompt, seed), one, other in zip(wanted, before, after, strict=True)
    ]


def _draw(pipe: Any, prompt: str, seed: int, steps: int | None) -> Image.Image:
    more = {} if steps is None else {"num_inference_steps": steps}
    result = pipe(prompt, generator=torch.Generator().manual_seed(seed), **more)
    picture: Image.Image = result.images[0]
    return picture
