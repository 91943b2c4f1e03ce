"""Picture detectors by name, each with the network it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from tadasu.errors import BadInput, UnknownName

if TYPE_CHECKING:
    import torch

    from tadasu.concepts import Concept
    from tadasu.detectors.detector import Detector
    from tadasu.policy import Policy

NAMES = ("clip", "judge", "nudenet", "opennsfw")
UNITS: tuple[Literal["probability", "cosine similarity"], ...] = (
    "probability",
    "cosine similarity",
)


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


def from_policy(
    policy: Policy,
    *,
    models: Mapping[str, str],
    only: tuple[str, ...] = (),
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Detector, ...]:
    """Every detector that the policy's output thresholds name, for the concepts that name it.

    Args:
        policy: whose thresholds are read.
        models: by detector name, the folder or hub id of ``judge`` and ``clip``.
        only: leave out detectors of other names; empty for all.
        device: as in `load`.
        dtype: as in `load`.

    Returns:
        One detector for each detector name and unit, in the order in which they are named.

    Raises:
        UnknownName: the policy names a detector that does not exist.
        BadInput: the policy asks for a unit that the detector does not give.
        BadFile: as in `load`.
        MissingPart: as in `load`.
    """
    asked: dict[tuple[str, str], list[Concept]] = {}
    for rule in policy.rules:
        for item in rule.output:
            if only and item.detector not in only:
                continue
            about = asked.setdefault((item.detector, item.unit), [])
            if rule.concept not in about:
                about.append(rule.concept)
    return tuple(
        load(
            name,
            concepts=tuple(concepts),
            model=models.get(name),
            unit=_unit(name, unit),
            device=device,
            dtype=dtype,
        )
        for (name, unit), concepts in asked.items()
    )


def _unit(name: str, unit: str) -> Literal["probability", "cosine similarity"]:
    for known in UNITS:
        if unit == known:
            return known
    raise BadInput(f"The detector {name} scores in {' or '.join(UNITS)}, not in {unit!r}.")
