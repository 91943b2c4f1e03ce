"""Picture detectors by name, each with the network it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tadasu.errors import BadInput, UnknownName

if TYPE_CHECKING:
    import torch

    from tadasu.concepts import Concept
    from tadasu.detectors.detector import Detector

NAMES = ("clip", "judge", "nudenet", "opennsfw")


def load(
    name: str,
    *,
    concepts: tuple[Concept, ...],
    model: str | None = None,
    unit: Literal["probability", "cosine similarity"] = "probability",
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> Detector:
    """A picture detector that is ready to score.

    Args:
        name: one of `NAMES`.
        concepts: what it answers for. ``opennsfw`` and ``nudenet`` measure one thing, nudity and
            sex, and give the same score to every concept; hand them sexual concepts only.
        model: a folder or hub id for ``judge`` (an image classifier) and ``clip`` (a CLIP).
        unit: the unit of ``clip``'s scores; the other detectors give probabilities.
        device: a torch device, of which onnxruntime knows ``"cpu"`` and ``"cuda"``; None for
            the fastest that is there.
        dtype: of ``judge``'s and ``clip``'s weights; None for float32.

    Raises:
        UnknownName: no picture detector has this name.
        BadInput: no concept, no model where one is needed, or a unit the detector does not give.
        BadFile: the model is damaged, incomplete or something else.
        MissingPart: the detector's extra is not installed; the message has the install line.
    """
    if name not in NAMES:
        raise UnknownName("picture detector", name, NAMES)
    if not concepts:
        raise BadInput(f"The detector {name} needs at least one concept to answer for.")
    if unit != "probability" and name != "clip":
        raise BadInput(f"The detector {name} scores in probability, not in {unit}.")
    ids = tuple(concept.id for concept in concepts)
    if name == "opennsfw":
        from tadasu.backends.onnx import opennsfw

        return opennsfw.load(concepts=ids, device=device)
    if name == "nudenet":
        from tadasu.backends.onnx import nudenet

        return nudenet.load(concepts=ids, device=device)
    if model is None:
        raise BadInput(f"The detector {name} needs a model: a folder or a hub id.")
    if name == "judge":
        from tadasu.backends.transformers import classifier

        return classifier.load(concepts=concepts, ref=model, device=device, dtype=dtype)
    from tadasu.backends.transformers import clip

    return clip.load(concepts=concepts, ref=model, unit=unit, device=device, dtype=dtype)
