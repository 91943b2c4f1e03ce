"""A diffusers pipeline as edits see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tadasu.backends.diffusers.attach import Acting
from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.fold import fold, folded, unfold
from tadasu.backends.diffusers.context.layer import takes_layers
from tadasu.backends.diffusers.context.lora import export
from tadasu.backends.diffusers.context.ports import gram, ports
from tadasu.backends.diffusers.context.text import HiddenEncoder, PipelineEncoder
from tadasu.editing.encoder import Encoder
from tadasu.editing.models import Model

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from tadasu.editing.edit import Map


class PipelineModel:
    """See :class:`tadasu.editing.models.Model`.

    Args:
        pipe: the pipeline; every method acts on it as it is then.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def encoder(self, *, sequence_length: int | None = None, hidden: bool = False) -> Encoder:
        """Its texts."""
        if hidden:
            return HiddenEncoder(self._pipe)
        return PipelineEncoder(self._pipe, sequence_length=sequence_length)

    def grams(self) -> Mapping[str, Tensor]:
        """Per site, the sum of ``WᵀW``."""
        return {site: gram(some) for site, some in ports(self._pipe).items()}

    def width(self) -> int:
        """Length of one row of the text context."""
        return ports(self._pipe)["context"][0].width

    def layered(self) -> bool:
        """Whether its text encoder takes one more layer."""
        return takes_layers(self._pipe)

    @contextmanager
    def applied(self, *maps: Mapping[str, Map]) -> Iterator[Acting]:
        """Edits at run time."""
        with applied(self._pipe, *maps) as acting:
            yield acting

    def fold(self, name: str, maps: Mapping[str, Map]) -> None:
        """Write an edit into the model."""
        fold(self._pipe, name, maps)

    def unfold(self, name: str) -> None:
        """Take it out."""
        unfold(self._pipe, name)

    def folded(self) -> Mapping[str, Mapping[str, Map]]:
        """What is written into the model."""
        return folded(self._pipe)

    def export(self, maps: Mapping[str, Map], path: Path, layout: str) -> None:
        """A LoRA file."""
        export(self._pipe, maps, path, layout)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], steps: int | None) -> list[Image]:
        """One picture per prompt and seed."""
        more = {} if steps is None else {"num_inference_steps": steps}
        pictures = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            made = self._pipe(prompt, generator=torch.Generator().manual_seed(seed), **more)
            pictures.append(made.images[0])
        return pictures


def model_of(pipe: Any) -> Model | None:
    """The model of a diffusers pipeline; None for anything else."""
    from diffusers import DiffusionPipeline

    return PipelineModel(pipe) if isinstance(pipe, DiffusionPipeline) else None
