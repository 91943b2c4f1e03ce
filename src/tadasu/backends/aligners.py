"""Opens what alignment is given as a reference: engines and evaluators."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tadasu.alignment.evaluators.card import EvaluatorCard
from tadasu.alignment.evaluators.cosine import PRE_THRESHOLD, ImageTextCosine
from tadasu.alignment.evaluators.evaluator import (
    Exchange,
    ImageCheck,
    TextCheck,
    TextEvaluator,
)
from tadasu.alignment.evaluators.guard import GenerativeGuard
from tadasu.alignment.evaluators.pieces import Fits, Pieces
from tadasu.alignment.evaluators.reward import GuardClassifier, RewardModel
from tadasu.errors import BadInput, shown
from tadasu.references import located

if TYPE_CHECKING:
    from tadasu.alignment.engine import Engine
    from tadasu.alignment.method import Parts
    from tadasu.backends.openai.dialect import Name
    from tadasu.backends.transformers.text_evaluators import SequenceClassifier
    from tadasu.policy import Policy

GUARD_THRESHOLD = 0.5


def engine(ref: str, *, device: str | None = None, dialect: Name | None = None) -> Engine:
    """The engine behind a folder, hub id or web address.

    A web address is that of a server that speaks the OpenAI protocol; the name of the model may
    follow behind a ``#``: ``http://localhost:8000/v1#llava``. ``dialect`` says what kind of server
    it is; None tries what it understands.

    Raises:
        BadFile: the reference holds no vision-language model.
        BadInput: there is no such device, or the address cannot be used.
        MissingPart: an extra is not installed, or the server is not reachable.
    """
    if re.match(r"https?://", ref):
        from tadasu.backends.openai.engine import OpenAIEngine

        address, _, model = ref.partition("#")
        return OpenAIEngine(address, model=model or None, dialect=dialect)
    from tadasu.backends.transformers.engine import TransformersEngine

    return TransformersEngine(ref, device=device)


def answers(ref: str, *, threshold: float | None = None, device: str | None = None) -> TextCheck:
    """The answer evaluator in a folder, behind a hub id or behind a server.

    Args:
        ref: a reward model (one logit), a guard classifier or a guard model that writes its
            verdict; its card says how to read it. Or the address of a server's ``/moderations``
            or ``/classify`` with the model's name behind a ``#``, or a card's file.
        threshold: None for the card's; a guard without a card has 0.5.
        device: a torch device.

    Raises:
        BadInput: neither the caller nor the card says a threshold, or which labels are unsafe.
        BadFile: the reference holds no sequence classifier, or its card cannot be understood.
        MissingPart: the extra ``diffusers`` is not installed.
    """
    ref = located(ref, "evaluator")
    if re.match(r"https?://", ref):
        address, _, model = ref.partition("#")
        card = EvaluatorCard(address=address, model=model)
    elif Path(ref).suffix == ".json" and Path(ref).is_file():
        card = EvaluatorCard.read(Path(ref))
    else:
        card = EvaluatorCard.beside(Path(ref)) if Path(ref).is_dir() else EvaluatorCard()
    made, default = _evaluator(ref, card, device)
    limit = next((each for each in (threshold, card.threshold, default) if each is not None), None)
    if limit is None:
        raise BadInput(
            f"The reward model {shown(ref, 300)} has no threshold: rewards of different models "
            "have different scales. Give one, or find one with tadasu calibrate align."
        )
    return TextCheck(evaluator=made, threshold=limit, calibration=card.calibration)


def _evaluator(
    ref: str, card: EvaluatorCard, device: str | None
) -> tuple[TextEvaluator, float | None]:
    """An evaluator that reads its card's way, and the threshold of its kind."""
    if card.address:
        from tadasu.backends.openai import evaluators

        served = evaluators.served(card)
        return Pieces(evaluator=served, reading=card.reading or "sentences"), GUARD_THRESHOLD
    if card.guard or _writes(ref):
        from tadasu.backends.transformers.guards import FirstWordGuard

        guard = FirstWordGuard(ref, kind=card.guard or None, device=device)
        whole = GenerativeGuard(network=guard)
        made = Pieces(evaluator=whole, fits=guard.fits, reading=card.reading or "whole")
        return made, GUARD_THRESHOLD
    from tadasu.backends.transformers.text_evaluators import SequenceClassifier

    network = SequenceClassifier(ref, device=device)
    kind = card.reading or "sentences"
    if len(network.labels) > 1:
        judge = GuardClassifier(network=network, unsafe=card.unsafe)
        return Pieces(evaluator=judge, fits=network.fits, reading=kind), GUARD_THRESHOLD
    reward = RewardModel(network=network, instruction=card.instruction)
    return Pieces(evaluator=reward, fits=_beside(network, card), reading=kind), None


def _beside(network: SequenceClassifier, card: EvaluatorCard) -> Fits:
    """Whether an answer fits beside what takes the place of its question."""
    if card.instruction is None:
        return network.fits
    instruction = card.instruction
    return lambda each: network.fits(Exchange(question=instruction, answer=each.answer))


def _writes(ref: str) -> bool:
    """Whether a reference holds a language model that writes, so a guard that writes verdicts."""
    from tadasu.backends.transformers.load import reading

    with reading(ref, "an answer evaluator") as transformers:
        config = transformers.AutoConfig.from_pretrained(ref)
    names = [str(each) for each in config.architectures or ()]
    return any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in names)


def images(
    ref: str,
    *,
    threshold: float | None = None,
    policy: Policy | None = None,
    device: str | None = None,
) -> ImageCheck:
    """The image evaluator made of a CLIP: the policy's concepts, else the published unsafe text.

    Raises:
        BadFile: the reference holds no CLIP.
        MissingPart: the extra ``diffusers`` is not installed.
    """
    from tadasu.alignment.evaluators.cosine import of_concepts
    from tadasu.backends.transformers.clip import ClipEncoder

    network = ClipEncoder(ref, device=device)
    limit = PRE_THRESHOLD if threshold is None else threshold
    if policy is None or not policy.concepts:
        return ImageCheck(evaluator=ImageTextCosine(network=network), threshold=limit)
    evaluator = ImageTextCosine(network=network, texts=of_concepts(policy.concepts))
    return ImageCheck(evaluator=evaluator, threshold=limit)


def published(
    model: str, *, answers: str, clip: str, device: str | None = None, dialect: Name | None = None
) -> Parts:
    """The parts of the published method: its instructions, its unsafe text, its thresholds.

    Args:
        model: of the engine.
        answers: a reward model; ``RLHFlow/ArmoRM-Llama3-8B-v0.1`` in the paper.
        clip: a CLIP; ``openai/clip-vit-large-patch14-336`` in the paper.
        device: a torch device.
        dialect: of a server; None tries what it understands.

    Raises:
        BadFile: a reference holds something else.
        MissingPart: an extra is not installed.
    """
    from tadasu.alignment import eta
    from tadasu.backends.transformers.clip import ClipEncoder
    from tadasu.backends.transformers.text_evaluators import SequenceClassifier

    return eta.published(
        engine(model, device=device, **({"dialect": dialect} if dialect else {})),
        ClipEncoder(clip, device=device),
        SequenceClassifier(answers, device=device),
    )


def beside(ref: str) -> Mapping[str, str]:
    """Folders called ``evaluator`` and ``clip`` that lie beside a model's folder."""
    own = Path(located(ref, "vlm"))
    if not own.is_dir():
        return {}
    folders = {name: own.parent / name for name in ("evaluator", "clip")}
    return {name: str(path) for name, path in folders.items() if path.is_dir()}
