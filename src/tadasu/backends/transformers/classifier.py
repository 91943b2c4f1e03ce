"""Image classifiers through transformers, as the judge needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.backends.transformers.load import Placed, complete, fingerprint, place, reading
from tadasu.concepts import Concept
from tadasu.detectors.card import JudgeCard
from tadasu.detectors.judge import Judge
from tadasu.errors import BadFile, shown
from tadasu.references import located

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float
    from PIL import Image


class Classifier:
    """Any `AutoModelForImageClassification` with its image processor, in evaluation mode.

    Args:
        ref: a folder or a hub id.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadFile: the reference holds no image classifier, or its labels have no names.
        BadInput: there is no such device.
        MissingPart: the extra ``diffusers`` is not installed.
    """

    def __init__(
        self,
        ref: str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        ref = located(ref, "judge")
        with reading(ref, "an image classifier") as transformers:
            self._processor: Any = transformers.AutoImageProcessor.from_pretrained(
                ref, backend="pil"
            )
            model = complete(transformers.AutoModelForImageClassification, ref)
        self._placed: Placed = place(model, device=device, dtype=dtype)
        config = model.config
        self.labels: tuple[str, ...] = tuple(
            str(config.id2label[i]) for i in range(config.num_labels)
        )
        self.multi_label: bool = config.problem_type == "multi_label_classification"
        if all(label == f"LABEL_{i}" for i, label in enumerate(self.labels)):
            raise BadFile(f"The classifier {shown(ref, 300)} has no names for its labels.")

    @property
    def content(self) -> str:
        """What its weights are; systems with other weights are other systems."""
        return fingerprint(self._placed.model)

    def logits(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "image label"]:
        """One row of logits for each RGB picture."""
        pixels = self._processor(
            list(images), return_tensors="pt", input_data_format="channels_last"
        )["pixel_values"]
        return self._placed.run(lambda model, inputs: model(inputs).logits, pixels)


def load(
    *,
    concepts: tuple[Concept, ...],
    ref: str,
    card: JudgeCard | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> Judge:
    """The judge with its network and its card.

    Args:
        concepts: what to look for.
        ref: a folder or a hub id.
        card: how to read the logits; None for ``judge.json`` in the folder, where there is one.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadFile: the reference holds no image classifier, or the card cannot be understood.
        BadInput: no concept, no such device, or the card names a label that does not exist.
        MissingPart: the extra ``diffusers`` is not installed.
    """
    ref = located(ref, "judge")
    if card is None:
        card = JudgeCard.beside(Path(ref)) if Path(ref).is_dir() else JudgeCard()
    network = Classifier(ref, device=device, dtype=dtype)
    return Judge(network=network, looked_for=concepts, card=card)
