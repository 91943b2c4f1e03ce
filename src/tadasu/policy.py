"""A policy: a versioned document that says, per concept, what happens at each stage.

The stages are prompt (block, flag or allow what the prompt screen found), sampling (guidance
while the picture is made), output (detector thresholds and what they lead to) and people (which
outcomes become a case). The format is ``policies/schema.json``; see docs/policy.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from tadasu.concepts import HAZARDS, Concept
from tadasu.document import Document, parse, read
from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.records import Decision, Json

PromptAction = Literal["block", "flag", "allow"]
Strength = Literal["weak", "medium", "strong", "max"]
Case = Literal["flag", "blur", "block", "hold", "regenerate"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Guidance while a picture is made.

    Attributes:
        guidance: name of the rule.
        strength: one of the rule's levels; None for a rule without levels.
    """

    guidance: str
    strength: Strength | None = None


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What one detector's score leads to.

    Attributes:
        detector: who scores.
        threshold: in ``unit``; a score at it or beyond counts.
        unit: must equal the unit of the detector's scores.
        action: blur, block, hold or regenerate.
    """

    detector: str
    threshold: float
    unit: str
    action: Decision


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a policy says about one concept.

    Attributes:
        concept: what it speaks about.
        prompt: what happens to a prompt that speaks of it.
        meaning: per sentence embedder, the cosine similarity from which a prompt is near it.
        sampling: the guidance that keeps it out; None for none.
        output: thresholds on detector scores.
        people: outcomes that become a case for a person.
    """

    concept: Concept
    prompt: PromptAction = "allow"
    meaning: Mapping[str, float] = field(default_factory=dict)
    sampling: Sampling | None = None
    output: tuple[Threshold, ...] = ()
    people: tuple[Case, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A versioned set of rules.

    Attributes:
        name: its name in records.
        version: ``major.minor.patch``, changed by whoever changes the rules.
        description: for people.
        rules: one per concept.
        attempts: how often a picture is made again when a threshold says regenerate.
        then: what happens when regenerating did not help: block or hold.

    Raises:
        BadInput: two rules for one concept.
    """

    name: str
    version: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    attempts: int = 2
    then: Decision = Decision.BLOCK

    def __post_init__(self) -> None:
        """Refuse two rules for one concept."""
        ids = [rule.concept.id for rule in self.rules]
        doubled = sorted({name for name in ids if ids.count(name) > 1})
        if doubled:
            raise BadInput(f"Policy {self.name} has two rules for {', '.join(doubled)}.")

    def __repr__(self) -> str:
        """Short: name, version, concepts and the beginning of its hash."""
        named = ", ".join(rule.concept.id for rule in self.rules)
        return f"Policy({self.name!r}, {self.version}, [{named}], {self.hash[:15]}…)"

    @classmethod
    def load(cls, name_or_path: str | Path) -> Policy:
        """A bundled policy by name, or any policy by its file.

        Raises:
            UnknownName: no bundled policy and no file has this name.
            BadFile: the file is not a policy; the message has line and column.

        >>> Policy.load("observe").rules
        ()
        """
        given = str(name_or_path)
        if given in bundled():
            text = _folder().joinpath(f"{given}.yaml").read_text(encoding="utf-8")
            return _from_document(parse(text, f"{given}.yaml"))
        path = Path(name_or_path)
        if path.is_file():
            return _from_document(read(path))
        if path.suffix or len(path.parts) > 1:
            raise BadFile(f"{given}: no such policy file.")
        raise UnknownName("policy", given, bundled())

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """Every concept, in the order of the rules."""
        return tuple(rule.concept for rule in self.rules)

    def rule(self, concept: str) -> Rule:
        """The rule about a concept.

        Raises:
            UnknownName: the policy does not speak of it.
        """
        for rule in self.rules:
            if rule.concept.id == concept:
                return rule
        raise UnknownName("concept", concept, (rule.concept.id for rule in self.rules))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content as canonical JSON, ``sha256:…``.

        Comments, key order, spelling of numbers and defaults that are written out do not change
        it; anything that changes what the policy does, says or is called changes it.
        """
        canonical = json.dumps(
            self.as_json(), ensure_ascii=False, sort_keys=True, separators=(",", ":")
        )
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def identity(self) -> dict[str, Json]:
        """Name, version and hash, as a record holds them."""
        return {"name": self.name, "version": self.version, "hash": self.hash}

    def as_json(self) -> dict[str, Json]:
        """The whole policy with its defaults written out."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "regenerate": {"attempts": self.attempts, "then": str(self.then)},
            "concepts": [_rule_as_json(rule) for rule in self.rules],
        }


def bundled() -> tuple[str, ...]:
    """Names of the policies that come with the library.

    >>> bundled()
    ('i2p', 'kids', 'observe')
    """
    files = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


def schema() -> dict[str, Any]:
    """The JSON schema of a policy file."""
    found: dict[str, Any] = json.loads(
        _folder().joinpath("schema.json").read_text(encoding="utf-8")
    )
    return found


def _folder() -> resources.abc.Traversable:
    return resources.files("tadasu.policies")


def _from_document(document: Document) -> Policy:
    document.check(schema())
    content = document.content
    rules = []
    seen: set[str] = set()
    for index, entry in enumerate(content["concepts"]):
        where = document.at(("concepts", index, "id"))
        if entry["id"] in seen:
            raise BadFile(f"{where}: the concept {entry['id']!r} stands here a second time.")
        seen.add(entry["id"])
        if entry["hazard"] not in HAZARDS:
            unknown = UnknownName("hazard", entry["hazard"], HAZARDS)
            raise BadFile(f"{document.at(('concepts', index, 'hazard'))}: {unknown}")
        try:
            rules.append(_rule({**content.get("defaults", {}), **entry}))
        except BadInput as error:
            raise BadFile(f"{where}: {error}") from error
    again = content.get("regenerate", {})
    return Policy(
        name=content["name"],
        version=content["version"],
        description=content.get("description", "").strip(),
        rules=tuple(rules),
        attempts=again.get("attempts", 2),
        then=Decision(again.get("then", "block")),
    )


def _rule(entry: Mapping[str, Any]) -> Rule:
    concept = Concept(
        id=entry["id"],
        names=_texts(entry.get("names", {})),
        aliases=_texts(entry.get("aliases", {})),
        exceptions=_texts(entry.get("exceptions", {})),
        modifies=_texts(entry.get("modifies", {})),
        prompts=tuple(entry.get("prompts", ())),
        images=tuple(entry.get("images", ())),
        hazard=entry["hazard"],
        severity=entry.get("severity", "medium"),
    )
    return Rule(
        concept=concept,
        prompt=entry.get("prompt", "allow"),
        meaning=MappingProxyType({k: float(v) for k, v in entry.get("meaning", {}).items()}),
        sampling=Sampling(**entry["sampling"]) if "sampling" in entry else None,
        output=tuple(
            Threshold(
                detector=item["detector"],
                threshold=float(item["threshold"]),
                unit=item["unit"],
                action=Decision(item["action"]),
            )
            for item in entry.get("output", ())
        ),
        people=tuple(entry.get("people", ())),
    )


def _texts(given: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {language: tuple(texts) for language, texts in given.items()}


def _rule_as_json(rule: Rule) -> Json:
    concept = rule.concept
    sampling: dict[str, Json] | None = None
    if rule.sampling:
        sampling = {"guidance": rule.sampling.guidance, "strength": rule.sampling.strength}
    return {
        "id": concept.id,
        "hazard": concept.hazard,
        "severity": concept.severity,
        **{
            field: {language: list(texts) for language, texts in getattr(concept, field).items()}
            for field in ("names", "aliases", "exceptions", "modifies")
        },
        "prompts": list(concept.prompts),
        "images": list(concept.images),
        "prompt": rule.prompt,
        "meaning": dict(rule.meaning),
        "sampling": sampling,
        "output": [
            {
                "detector": item.detector,
                "threshold": item.threshold,
                "unit": item.unit,
                "action": str(item.action),
            }
            for item in rule.output
        ],
        "people": list(rule.people),
    }
