"""What an edit needs from a model, and who offers it.

This room knows no network library. A backend writes a :class:`Model` for the pipelines it knows and
is registered by name in the package's root; it is imported when the first pipeline is edited.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tadasu.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from tadasu.editing.edit import Map
    from tadasu.editing.encoder import Encoder

#: Modules with a ``model_of(pipe)`` that answers a :class:`Model`, or None for another library's.
_BACKENDS: list[str] = []
#: Folders with measured priors, one file per text encoder, named by the encoder's fingerprint.
PRIORS: list[Path] = []


class Acting(Protocol):
    """Edits while they act."""

    @property
    def record(self) -> Any:
        """What they did in the latest call, per picture; None before the first."""
        ...


class Model(Protocol):
    """A pipeline as edits see it."""

    def encoder(self, *, sequence_length: int | None = None, hidden: bool = False) -> Encoder:
        """Its texts.

        Args:
            sequence_length: T5 rows for SD3 and Flux; None is the pipeline's own.
            hidden: rows of the text encoder's last layer before they are normalised, at the site
                ``layer``, instead of what the denoiser reads.
        """
        ...

    def grams(self) -> Mapping[str, Tensor]:
        """Per site, the sum of ``WᵀW`` over the layers that read it."""
        ...

    def width(self) -> int:
        """Length of one row of the text context."""
        ...

    def layered(self) -> bool:
        """Whether its text encoder takes one more layer (``layer`` edits)."""
        ...

    def applied(self, *maps: Mapping[str, Map]) -> AbstractContextManager[Acting]:
        """Edits for as long as the block lasts, in the order given."""
        ...

    def fold(self, name: str, maps: Mapping[str, Map]) -> None:
        """Write an edit into the model."""
        ...

    def unfold(self, name: str) -> None:
        """Take a written edit out, bit for bit."""
        ...

    def folded(self) -> Mapping[str, Mapping[str, Map]]:
        """Edits that are written into the model, the first one first."""
        ...

    def export(self, maps: Mapping[str, Map], path: Path, layout: str) -> None:
        """Write the edit as a LoRA file for this model."""
        ...

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], steps: int | None) -> list[Image]:
        """One picture per prompt and seed."""
        ...


def register(module: str) -> None:
    """Let a backend offer models.

    Args:
        module: dotted name; it is imported when it is first needed.
    """
    if module not in _BACKENDS:
        _BACKENDS.append(module)


def model_of(pipe: Any) -> Model:
    """The model of a pipeline.

    Raises:
        BadInput: when no backend knows it.
    """
    for name in _BACKENDS:
        found: Model | None = importlib.import_module(name).model_of(pipe)
        if found is not None:
            return found
    raise BadInput(f"A {type(pipe).__name__} cannot be edited; give a diffusers pipeline.")
