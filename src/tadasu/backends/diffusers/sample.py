"""Draws one batch, and says in one way what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tadasu.errors import RunFailed, TadasuError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Why a picture that the model's own checker flagged is not handed out.
CHECKER = "the model's own safety checker flagged it"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One picture.

    Attributes:
        image: in RGB.
        flagged: whether the pipeline's own safety checker flagged it.
    """

    image: Image
    flagged: bool


def drawn(
    pipe: Any, texts: Sequence[str], seeds: Sequence[int], arguments: Mapping[str, Any]
) -> list[Drawn]:
    """One picture for each text, each from its own seed, in one call of the pipeline.

    The pipeline is this thread's or task's alone meanwhile, also where nothing is attached to it.

    Args:
        pipe: a diffusers text-to-image pipeline.
        texts: the prompts.
        seeds: of the pictures; a picture does not depend on the others of its batch.
        arguments: what else the pipeline is called with.

    Raises:
        BadInput: what is attached to the pipeline cannot be used with these arguments.
        RunFailed: the pipeline broke off, for example without memory, something attached did not
            act on every step, or another thread has the pipeline; nothing was drawn.
    """
    import torch

    from tadasu.backends.diffusers.attach import owned

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    try:
        with owned(pipe), torch.no_grad():
            result = pipe(list(texts), generator=generators, **arguments)
    except TadasuError:
        raise
    except Exception as error:  # whatever breaks off inside somebody's model
        raise RunFailed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    images = list(result.images)
    if len(images) != len(texts):
        raise RunFailed(f"The pipeline gave {len(images)} pictures for {len(texts)} prompts.")
    flags = getattr(result, "nsfw_content_detected", None) or [False] * len(images)
    return [
        Drawn(image=image.convert("RGB"), flagged=bool(flag))
        for image, flag in zip(images, flags, strict=True)
    ]
