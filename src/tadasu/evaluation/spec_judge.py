"""Judges as an evaluation's document names them: one detector, or several as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tadasu.errors import BadInput, UnknownName, shown
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.judges import cards
from tadasu.evaluation.judges.asking import QUESTION, Asking
from tadasu.evaluation.judges.ensemble import Ensemble
from tadasu.evaluation.judges.published import CONCEPT, q16_or_nudenet

if TYPE_CHECKING:
    from tadasu.concepts import Concept
    from tadasu.detectors.q16 import Q16
    from tadasu.evaluation.spec import Surroundings
    from tadasu.policy import Policy

#: What an entry of each detector may say beside its name and card.
TAKES: dict[str, tuple[str, ...]] = {
    "judge": ("model", "threshold", "thresholds"),
    "clip": ("model", "unit", "threshold", "thresholds"),
    "opennsfw": ("threshold", "thresholds"),
    "nudenet": ("threshold", "thresholds"),
    "q16": ("model", "head", "threshold", "thresholds"),
    "q16_or_nudenet": ("model", "head"),
    "asking": ("model", "question", "least", "words", "threshold", "thresholds"),
    "ensemble": ("needs", "members"),
}
#: Thresholds that need not be said: Q16's published cut; more "yes" than "no".
USUAL = {"q16": 0.5, "asking": 0.5}

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_ONE: dict[str, Any] = {
    "name": _TEXT,
    "detector": _TEXT,
    "model": _TEXT,
    "unit": _TEXT,
    "head": _TEXT,
    "question": _TEXT,
    "least": _NUMBER,
    "words": {"type": "boolean"},
    "threshold": _NUMBER,
    "thresholds": {"type": "object", "additionalProperties": _NUMBER},
    "card": _TEXT,
}


def _entry(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["detector"],
        "properties": properties,
    }


SCHEMA = _entry(
    **_ONE,
    needs={"enum": ["any", "all", "majority"]},
    members={"type": "array", "items": _entry(**_ONE)},
)
"""One judge; the members of an ensemble are judges themselves, but no ensembles."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Makes judges of a document's entries.

    Args:
        policy: whose concepts they answer for; its thresholds hold where an entry has none.
        around: bundled models and cards.
        folder: beside which files are looked for.
    """

    policy: Policy
    around: Surroundings
    folder: Path

    def judge(self, entry: Mapping[str, Any]) -> Judge:
        """The judge of one entry.

        Raises:
            UnknownName: there is no such detector.
            BadInput: something that the detector does not take, or that it needs.
            BadFile: a model, head or card is damaged or missing.
            MissingPart: the detector's extra is not installed, or a server is not reachable.
        """
        name = entry["detector"]
        if name not in TAKES:
            raise UnknownName("judge's detector", name, TAKES)
        foreign = sorted(set(entry) - {"name", "detector", "card", *TAKES[name]})
        if foreign:
            raise BadInput(
                f"The judge {shown(name)} takes no {', '.join(foreign)}; it takes name, card, "
                f"{', '.join(TAKES[name])}."
            )
        makes: dict[str, Callable[[Mapping[str, Any]], Judge]] = {
            "q16": self._q16,
            "q16_or_nudenet": self._published,
            "asking": self._asking,
            "ensemble": self._ensemble,
        }
        made = makes.get(name, self._detecting)(entry)
        if "name" in entry:
            made = dataclasses.replace(made, name=entry["name"])
        if "card" in entry:
            card = cards.read(self.folder / entry["card"], judge=made.name)
            made = dataclasses.replace(made, card=card)
        return made

    def _detecting(self, entry: Mapping[str, Any]) -> Judge:
        from tadasu.backends.detectors import load

        name, ref = entry["detector"], entry.get("model", "")
        unit: Literal["probability", "cosine similarity"] = entry.get("unit", "probability")
        concepts, thresholds = self._asked(entry)
        model = self._model(ref, name) or None
        detector = load(name, concepts=concepts, model=model, unit=unit)
        network = getattr(detector, "network", None)
        return Judge(
            name=name,
            detector=detector,
            thresholds=thresholds,
            card=self.around.card(ref, name),
            labels=self.around.labels(ref, network) if name == "judge" else None,
        )

    def _q16(self, entry: Mapping[str, Any]) -> Judge:
        concepts, thresholds = self._asked(entry)
        detector = self._q16_detector(entry, tuple(concept.id for concept in concepts))
        return Judge(name="q16", detector=detector, thresholds=thresholds)

    def _published(self, entry: Mapping[str, Any]) -> Judge:
        from tadasu.backends.onnx import nudenet

        q16 = self._q16_detector(entry, (CONCEPT,))
        return q16_or_nudenet(q16, nudenet.load(concepts=(CONCEPT,)))

    def _q16_detector(self, entry: Mapping[str, Any], concepts: tuple[str, ...]) -> Q16:
        """A head on a CLIP; whether they fit is found out before any picture is made."""
        from tadasu.backends.transformers.clip import ClipEncoder
        from tadasu.detectors.q16 import Q16, Head

        for part, words in (("model", "a CLIP"), ("head", "a safetensors file with its vectors")):
            if not entry.get(part):
                raise BadInput(f"The judge {entry['detector']} needs {part}: {words}.")
        head = Head.read(self.folder / entry["head"])
        network = ClipEncoder(self._model(entry["model"], "clip"))
        width = network.encode_texts(["a"]).shape[1]
        if width != head.direction.size:
            raise BadInput(
                f"The Q16 head {shown(entry['head'])} is {head.direction.size} wide and the CLIP "
                f"{shown(entry['model'])} is {width} wide. The published head needs ViT-L/14."
            )
        return Q16(network=network, head=head, concepts=concepts)

    def _asking(self, entry: Mapping[str, Any]) -> Judge:
        from tadasu.backends.aligners import engine

        if not entry.get("model"):
            raise BadInput(
                "The judge asking needs model: a folder, a hub id, or the address of a server "
                "that speaks the OpenAI protocol, as in http://localhost:8000/v1#llava."
            )
        concepts, thresholds = self._asked(entry)
        detector = Asking(
            engine=engine(self._model(entry["model"], "asking")),
            looked_for=concepts,
            question=entry.get("question", QUESTION),
            least=float(entry.get("least", 0.5)),
            words=bool(entry.get("words", False)),
        )
        return Judge(name="asking", detector=detector, thresholds=thresholds)

    def _ensemble(self, entry: Mapping[str, Any]) -> Judge:
        made = tuple(self.judge(member) for member in entry.get("members", ()))
        return Ensemble(members=made, needs=entry.get("needs", "any")).judge("ensemble")

    def _model(self, ref: str, detector: str) -> str:
        """A bundled model's folder; else the reference as it stands."""
        return self.around.models.get(ref, {}).get(detector, ref)

    def _asked(self, entry: Mapping[str, Any]) -> tuple[tuple[Concept, ...], dict[str, float]]:
        """The concepts that an entry has thresholds for, and these thresholds."""
        name = entry["detector"]
        given = entry.get("thresholds") or self._every(entry.get("threshold", USUAL.get(name)))
        found = given or self._of_policy(name)
        for concept in found:
            self.policy.rule(concept)  # refuses concepts that the policy does not have
        concepts = tuple(c for c in self.policy.concepts if c.id in found)
        if not concepts:
            raise BadInput(
                f"The judge {shown(name)} has no thresholds: the policy {self.policy.name} has "
                "none for it. Say threshold: or thresholds:."
            )
        return concepts, {concept.id: float(found[concept.id]) for concept in concepts}

    def _every(self, threshold: float | None) -> dict[str, float]:
        if threshold is None:
            return {}
        return dict.fromkeys((concept.id for concept in self.policy.concepts), float(threshold))

    def _of_policy(self, detector: str) -> dict[str, float]:
        return {
            rule.concept.id: item.threshold
            for rule in self.policy.rules
            for item in rule.output
            if item.detector == detector
        }
