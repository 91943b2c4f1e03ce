"""Q16: whether a picture is inappropriate, by two learned vectors in a CLIP space.

Patrick Schramowski, Christopher Tauchmann, Kristian Kersting, "Can Machines Help Us Answering
Question 16 in Datasheets, and In Turn Reflecting on Inappropriate Content?", FAccT 2022 (arXiv
2202.06675), section 4: softmax(100 cos) of the picture with a vector for "harmless" and one for
"inappropriate", learned by prompt tuning of CLIP ViT-L/14. The vectors are read from a file that
the user brings; so is a linear probe, whose sigmoid is the score. It is known to flag a lot.
The published file is a pickle, which can run code when it is read; convert it once to safetensors
(a tensor ``prompts`` of 2 x width, harmless first).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.special import expit

from tadasu.detectors.clip import ImageTextEncoder
from tadasu.detectors.detector import check_images, measured
from tadasu.errors import BadFile, BadInput, shown
from tadasu.records import Score

if TYPE_CHECKING:
    from jaxtyping import Float

SCALE = 100.0
"""By what cosines are multiplied; CLIP's own logit scale."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A direction in the picture's space and a cut: logit = direction · picture + bias.

    Attributes:
        direction: of pictures of length 1.
        bias: added to it.
    """

    direction: Float[np.ndarray, " width"]
    bias: float = 0.0

    @classmethod
    def of_prompts(cls, prompts: Float[np.ndarray, "2 width"], scale: float = SCALE) -> Head:
        """The softmax over two prompt vectors as a sigmoid, which is the same number.

        Raises:
            BadInput: not two finite vectors that differ from zero.

        >>> head = Head.of_prompts(np.array([[1.0, 0.0], [0.0, 2.0]]), scale=1.0)
        >>> head.direction.tolist()
        [-1.0, 1.0]
        """
        lengths = np.linalg.norm(prompts, axis=-1, keepdims=True) if prompts.ndim == 2 else 0.0
        if prompts.shape[0] != 2 or not np.all(np.isfinite(prompts)) or np.any(lengths == 0):
            raise BadInput(f"Q16 needs two prompt vectors, harmless first; given {prompts.shape}.")
        harmless, inappropriate = prompts / lengths
        return cls(direction=scale * (inappropriate - harmless))

    @classmethod
    def read(cls, path: Path) -> Head:
        """A head from a safetensors file: ``prompts``, or ``weight`` and ``bias``.

        Raises:
            BadFile: it is not such a file.
        """
        from safetensors.numpy import load_file

        try:
            content = load_file(path)
            if "prompts" in content:
                return cls.of_prompts(content["prompts"].astype(np.float64))
            weight, bias = content["weight"].astype(np.float64), content.get("bias", np.zeros(1))
            if weight.size != weight.shape[-1] or not np.all(np.isfinite(weight)):
                raise BadInput(f"a probe has one row of finite weights, not {weight.shape}")
            return cls(direction=weight.reshape(-1), bias=float(bias.reshape(-1)[0]))
        except Exception as error:  # a damaged file makes the reader raise nearly anything
            raise BadFile(
                f"{shown(path, 300)} is no Q16 head: {error}. Expected safetensors with 'prompts' "
                "(2 x width, harmless first) or 'weight' and 'bias'; convert a pickle once."
            ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Q16:
    """Scores how inappropriate a picture is, for the concepts it is made to answer for.

    Args:
        network: the CLIP whose space the head belongs to; the published head needs ViT-L/14.
        head: see `Head.read`.
        concepts: the ids of the concepts that the score stands for.

    Raises:
        BadInput: no concept.
    """

    network: ImageTextEncoder
    head: Head
    concepts: tuple[str, ...] = ("inappropriate",)

    name = "q16"
    unit = "probability"

    def __post_init__(self) -> None:
        """Check that it answers for something."""
        if not self.concepts:
            raise BadInput("q16 needs at least one concept that its score stands for.")

    @property
    def content(self) -> str:
        """SHA-256 of the head; another head is another judge."""
        numbers = np.append(self.head.direction, self.head.bias).astype(np.float32)
        return hashlib.sha256(numbers.tobytes()).hexdigest()

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        """The probability that each picture is inappropriate.

        Raises:
            BadInput: something in the list is no RGB picture, or the head is as wide as another
                CLIP.
        """
        check_images(images)
        if not images:
            return []
        vectors = np.asarray(self.network.encode_images(images), dtype=np.float64)
        if vectors.shape[1] != self.head.direction.size:
            raise BadInput(
                f"The Q16 head is for a CLIP of width {self.head.direction.size}; this one has "
                f"width {vectors.shape[1]}. The published head needs ViT-L/14 (768)."
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            chances = expit(unit @ self.head.direction + self.head.bias)
        return [
            [measured(self, concept, float(chance)) for concept in self.concepts]
            for chance in chances
        ]
