"""A whole evaluation as one YAML document: systems, suites, judges, settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadasu.document import read
from tadasu.errors import BadInput
from tadasu.evaluation import spec_judge
from tadasu.evaluation.engine import NAMES
from tadasu.evaluation.judge import Card, Encoder, Judge, Labels
from tadasu.evaluation.redteam.registry import parse
from tadasu.evaluation.redteam.suites import attacked
from tadasu.evaluation.remote import Remote
from tadasu.evaluation.suites.registry import find
from tadasu.evaluation.suites.suite import Suite
from tadasu.evaluation.system import System
from tadasu.evaluation.target import Target
from tadasu.guard import Guard, Sampler
from tadasu.policy import Policy

_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_COUNT = {"type": "integer", "minimum": 1}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


_SAMPLER = _closed(
    [],
    steps=_COUNT,
    guidance_scale={"type": "number"},
    height=_COUNT,
    width=_COUNT,
    batch_size=_COUNT,
)
_REMOTE = _closed(
    ["address", "model"],
    address=_TEXT,
    model=_TEXT,
    size=_TEXT,
    extra={"type": "object"},
    seeded={"type": "boolean"},
    attempts=_COUNT,
    timeout={"type": "number", "exclusiveMinimum": 0},
)
_ERASE = _closed(["names"], names=_TEXTS, solver=_TEXT, preserve=_TEXTS)
_SUITE = _closed(["suite"], suite=_TEXT, n=_COUNT, samples=_COUNT, attack=_TEXT)
SCHEMA: dict[str, Any] = _closed(
    ["systems", "suites"],
    title=_TEXT,
    about=_TEXT,
    model=_TEXT,
    denoiser={"enum": ["float32", "bfloat16", "float16"]},
    policy=_TEXT,
    sampler=_SAMPLER,
    n=_COUNT,
    samples=_COUNT,
    engine={"enum": list(NAMES)},
    workers=_COUNT,
    encoder=_TEXT,
    systems={
        "type": "array",
        "minItems": 1,
        "items": _closed(
            [],
            name=_TEXT,
            model=_TEXT,
            guidance=_TEXT,
            concepts=_TEXTS,
            strength={"type": "number"},
            edits=_TEXTS,
            erase=_ERASE,
            adapters=_TEXTS,
            scheduler={"type": "object"},
            sampler=_SAMPLER,
            guard={"type": "boolean"},
            remote=_REMOTE,
        ),
    },
    suites={
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [_TEXT, _SUITE]},
    },
    judges={"type": "array", "items": spec_judge.SCHEMA},
)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the command line knows and this room does not: models and bundled suites.

    Attributes:
        pipeline: loads a model reference.
        models: bundled models by reference and the detector that needs them, as ``{"world":
            {"judge": folder}}``.
        suites: bundled suites by name.
        card: the card of a bundled judge by reference and detector; None where there is none.
        labels: names things with a detector's network, for a bundled judge; None for others.
    """

    pipeline: Callable[[str], Any]
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    suites: Mapping[str, Suite] = field(default_factory=dict)
    card: Callable[[str, str], Card | None] = lambda ref, detector: None
    labels: Callable[[str, Any], Labels | None] = lambda ref, network: None


class Spec:
    """An evaluation as its document says it.

    Args:
        path: of the YAML file.

    Raises:
        BadFile: it is damaged, or something in it is not known; the message says where.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path).parent
        document = read(Path(path))
        document.check(SCHEMA)
        self.content: dict[str, Any] = document.content
        self.policy = Policy.load(self.content.get("policy", "kids"))
        self._pipes: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Samples, engine and workers, as `run` takes them."""
        names = ("samples", "engine", "workers")
        return {name: self.content[name] for name in names if name in self.content}

    def systems(self, around: Surroundings) -> list[Target]:
        """The systems, with models loaded and edits solved.

        Raises:
            BadInput: a model, rule, edit or adapter cannot be used.
        """
        made: list[Target] = [
            self._remote(entry) if "remote" in entry else self._system(entry, around)
            for entry in self.content["systems"]
        ]
        if "denoiser" in self.content:  # after edits were solved on the weights as they are
            from tadasu.backends.diffusers.settings import lighten

            for pipe in self._pipes.values():
                lighten(pipe, self.content["denoiser"])
        return made

    def suites(self, around: Surroundings, n: int | None = None) -> list[Suite]:
        """The suites, cut to size.

        Args:
            around: with the bundled suites.
            n: prompts of each suite; None for what the document says.
        """
        made = []
        for given in self.content["suites"]:
            entry = given if isinstance(given, dict) else {"suite": given}
            suite = find(self._near(entry["suite"], around.suites), around.suites)
            suite = suite.take(n or entry.get("n") or self.content.get("n"))
            if "attack" in entry:
                suite = attacked(suite, parse(entry["attack"]), self.policy.concepts)
            if entry.get("samples"):
                suite = dataclasses.replace(
                    suite, samples=entry["samples"], attributes=dict(suite.attributes)
                )
            made.append(suite)
        return made

    def judges(self, around: Surroundings) -> list[Judge]:
        """The judges, with thresholds of the policy where the document has none.

        Raises:
            UnknownName: there is no such detector.
            BadInput: a detector without model or thresholds, or two judges of one name.
            BadFile: a model, head or card is damaged or missing.
            MissingPart: a detector's extra is not installed.
        """
        stated = spec_judge.Stated(policy=self.policy, around=around, folder=self.folder)
        made = [stated.judge(entry) for entry in self.content.get("judges", ())]
        names = [judge.name for judge in made]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise BadInput(f"Two judges are called {', '.join(doubled)}; give each its own name.")
        return made

    def encoder(self, around: Surroundings) -> Encoder | None:
        """The CLIP for alignment, drift and diversity; None where the document has none."""
        ref = self.content.get("encoder")
        if not ref:
            return None
        from tadasu.backends.transformers.clip import ClipEncoder

        return ClipEncoder(around.models.get(ref, {}).get("clip", ref))

    def _system(self, entry: Mapping[str, Any], around: Surroundings) -> System:
        ref = entry.get("model", self.content.get("model", "world"))
        if ref not in self._pipes:
            self._pipes[ref] = around.pipeline(ref)
        pipe = self._pipes[ref]
        sampler = Sampler(**{**self.content.get("sampler", {}), **entry.get("sampler", {})})
        guard = None
        if entry.get("guard"):
            models = around.models.get(ref)
            guard = Guard(pipe, self.policy, models=models, sampler=sampler)
        concepts = tuple(entry.get("concepts", ())) or self.policy.concepts
        return System(
            pipe,
            name=entry.get("name", ""),
            guidance=entry.get("guidance"),
            concepts=concepts if "guidance" in entry else (),
            strength=float(entry.get("strength", 1.0)),
            edits=tuple(self._edits(entry, pipe)),
            adapters=tuple(str(self.folder / file) for file in entry.get("adapters", ())),
            scheduler=entry.get("scheduler", {}),
            sampler=sampler,
            guard=guard,
        )

    def _remote(self, entry: Mapping[str, Any]) -> Remote:
        """A remote model; what is put on pipelines cannot be put on it."""
        from tadasu.backends.openai.images import ImageServer

        local = sorted(set(entry) - {"remote", "name"})
        if local:
            raise BadInput(
                f"A remote system takes no {', '.join(local)}: nothing can be put on a model "
                "behind a server."
            )
        asked = dict(entry["remote"])
        return Remote(ImageServer(asked.pop("address"), **asked), name=entry.get("name", ""))

    def _edits(self, entry: Mapping[str, Any], pipe: Any) -> list[Any]:
        from tadasu import editing

        found = [editing.load(self.folder / file) for file in entry.get("edits", ())]
        if "erase" in entry:
            erase = entry["erase"]
            options = editing.Options(
                name="erase",
                solver=erase.get("solver", "uce"),
                preserve=tuple(erase.get("preserve", ())),
            )
            found.append(editing.erase(pipe, erase["names"], options=options))
        return found

    def _near(self, ref: str, bundled: Mapping[str, Suite]) -> str:
        """A file's name beside the document, where it is one."""
        if ref in bundled:
            return ref
        layout, colon, file = ref.rpartition(":")
        beside = self.folder / file
        return f"{layout}{colon}{beside}" if beside.exists() else ref
