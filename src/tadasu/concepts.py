"""What a policy speaks about: concepts, their hazards, and what other taxonomies call these.

The crosswalk names the twelve hazards of MLCommons AILuminate v1.0 (arXiv 2503.05731), the
thirteen categories of OpenAI's ``omni-moderation-latest`` and the seven categories of I2P
(arXiv 2211.05105). An empty tuple says that a taxonomy has no place for the hazard; nothing is
mapped to a category just to fill the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

from tadasu.errors import BadInput, UnknownName, shown

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

AILUMINATE: tuple[str, ...] = (
    "violent crimes",
    "sex-related crimes",
    "child sexual exploitation",
    "suicide and self-harm",
    "indiscriminate weapons (CBRNE)",
    "intellectual property",
    "defamation",
    "non-violent crimes",
    "hate",
    "privacy",
    "specialized advice",
    "sexual content",
)
OPENAI: tuple[str, ...] = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
I2P: tuple[str, ...] = (
    "hate",
    "harassment",
    "violence",
    "self-harm",
    "sexual",
    "shocking",
    "illegal activity",
)


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """A kind of harm, and the categories of other taxonomies that cover it.

    Attributes:
        id: its name in policies and records.
        says: what it means, in one line.
        ailuminate: MLCommons AILuminate v1.0 hazards.
        openai: OpenAI moderation categories.
        i2p: I2P categories.
    """

    id: str
    says: str
    ailuminate: tuple[str, ...] = ()
    openai: tuple[str, ...] = ()
    i2p: tuple[str, ...] = ()


def _table(*hazards: Hazard) -> Mapping[str, Hazard]:
    return MappingProxyType({hazard.id: hazard for hazard in hazards})


HAZARDS: Mapping[str, Hazard] = _table(
    Hazard(
        id="violence",
        says="People or animals are hurt, threatened or killed.",
        ailuminate=("violent crimes",),
        openai=("violence", "harassment/threatening"),
        i2p=("violence",),
    ),
    Hazard(
        id="gore",
        says="Blood, wounds, corpses, mutilation, body horror.",
        openai=("violence/graphic",),
        i2p=("violence", "shocking"),
    ),
    Hazard(
        id="shocking",
        says="Disgusting, frightening or cruel pictures without an act of violence.",
        i2p=("shocking",),
    ),
    Hazard(
        id="weapons",
        says="Firearms, blades and explosives of one person.",
        ailuminate=("non-violent crimes",),
        openai=("illicit/violent",),
        i2p=("violence",),
    ),
    Hazard(
        id="mass_weapons",
        says="Chemical, biological, radiological, nuclear and high-yield explosive weapons.",
        ailuminate=("indiscriminate weapons (CBRNE)",),
        openai=("illicit/violent",),
        i2p=("violence", "illegal activity"),
    ),
    Hazard(
        id="hate",
        says="Contempt for people because of what they are; its symbols and organisations.",
        ailuminate=("hate",),
        openai=("hate", "hate/threatening"),
        i2p=("hate",),
    ),
    Hazard(
        id="harassment",
        says="A person is humiliated, insulted or bullied.",
        openai=("harassment",),
        i2p=("harassment",),
    ),
    Hazard(
        id="self_harm",
        says="Suicide, self-injury, eating disorders.",
        ailuminate=("suicide and self-harm",),
        openai=("self-harm", "self-harm/instructions", "self-harm/intent"),
        i2p=("self-harm",),
    ),
    Hazard(
        id="sexual",
        says="Nudity and sexual acts of adults.",
        ailuminate=("sexual content",),
        openai=("sexual",),
        i2p=("sexual",),
    ),
    Hazard(
        id="sexual_crime",
        says="Sexual acts without consent.",
        ailuminate=("sex-related crimes",),
        openai=("sexual",),
        i2p=("sexual", "violence"),
    ),
    Hazard(
        id="child_abuse",
        says="Children are abused, sexually or otherwise.",
        ailuminate=("child sexual exploitation", "violent crimes"),
        openai=("sexual/minors", "violence"),
        i2p=("sexual", "violence"),
    ),
    Hazard(
        id="crime",
        says="Theft, fraud, vandalism and other crimes without violence.",
        ailuminate=("non-violent crimes",),
        openai=("illicit",),
        i2p=("illegal activity",),
    ),
    Hazard(
        id="drugs",
        says="Illegal drugs: making, trading or taking them.",
        ailuminate=("non-violent crimes",),
        openai=("illicit",),
        i2p=("illegal activity",),
    ),
    Hazard(
        id="age_restricted",
        says="Legal for adults, kept from children: tobacco, alcohol, gambling, medicine.",
    ),
    Hazard(
        id="defamation",
        says="False claims about real people.",
        ailuminate=("defamation",),
        i2p=("harassment",),
    ),
    Hazard(id="privacy", says="Private facts of real people.", ailuminate=("privacy",)),
    Hazard(
        id="intellectual_property",
        says="Protected works, marks and characters.",
        ailuminate=("intellectual property",),
    ),
    Hazard(
        id="specialized_advice",
        says="Medical, legal, financial or election advice that needs a professional.",
        ailuminate=("specialized advice",),
    ),
)


class Speaks(Protocol):
    """Whatever speaks about concepts, as a policy does."""

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """What it speaks about."""
        ...


def spoken_of(concepts: Any) -> Any:
    """The concepts of a policy; anything else as it was given, a sequence as a tuple."""
    found = getattr(concepts, "concepts", concepts)
    return found if isinstance(found, str) else tuple(found)


@dataclass(frozen=True, kw_only=True)
class Concept:
    """Something that a policy speaks about.

    Attributes:
        id: lower case letters, digits, ``_`` and ``-``; starts with a letter.
        names: names and aliases per language (``{"en": ("pistol",), "ja": ("ピストル",)}``).
        prompts: texts that describe the concept to a model.
        hazard: a key of :data:`HAZARDS`.
        severity: low, medium, high or critical.
        images: paths or hub references of pictures that show it.
        aliases: further words per language that only the prompt screen looks for, ``zxx`` for
            emoji: slang, verbs, brands. No model is conditioned on them.
        exceptions: phrases per language that contain a name and mean something else
            (``"shot glass"``); the prompt screen ignores names inside them.
        modifies: words per language that, right after a name, are what the phrase speaks of
            (``dress`` in "cocktail dress"); the prompt screen ignores the name before them.

    Raises:
        BadInput: an id that is not a plain word, a severity that does not exist, or a concept
            without any name and prompt.
        UnknownName: a hazard that is not in the table.
    """

    id: str
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    hazard: str
    severity: Severity = "medium"
    images: tuple[str, ...] = ()
    exceptions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    modifies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the fields and make the mappings read-only."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", self.id):
            raise BadInput(
                f"A concept's id is 1 to 64 of a-z, 0-9, _ and -, starting with a letter; "
                f"got {shown(self.id)}."
            )
        if self.hazard not in HAZARDS:
            raise UnknownName("hazard", self.hazard, HAZARDS)
        if self.severity not in SEVERITIES:
            raise UnknownName("severity", self.severity, SEVERITIES)
        for listed in ("names", "aliases", "exceptions", "modifies"):
            object.__setattr__(self, listed, MappingProxyType(dict(getattr(self, listed))))
        if not self.prompts and not any(self.names.values()):
            raise BadInput(f"Concept {shown(self.id)} has neither a name nor a prompt.")

    def __repr__(self) -> str:
        """Short: what it is called and how many words stand for it."""
        count = sum(len(words) for words in self.names.values())
        return f"Concept({self.id!r}, hazard={self.hazard!r}, {count} names)"

    @property
    def content(self) -> str:
        """Everything that it says, as text for content addresses."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
        return json.dumps(plain, sort_keys=True, ensure_ascii=False)

    @property
    def text(self) -> str:
        """The text that guidance conditions on: the first prompt, else the first name.

        >>> Concept(id="cat", names={"en": ("a cat", "kitty")}, hazard="shocking").text
        'a cat'
        """
        if self.prompts:
            return self.prompts[0]
        ordered = (*self.names.get("en", ()), *(n for group in self.names.values() for n in group))
        return ordered[0]

    @property
    def about(self) -> Hazard:
        """The hazard with its crosswalk."""
        return HAZARDS[self.hazard]
