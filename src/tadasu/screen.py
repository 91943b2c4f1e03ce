"""The prompt screen: what a policy sees in a text before anything is generated.

Two detectors look: names (words that say a concept outright) and, where a sentence embedder is
handed in, meaning (texts that come near a concept without naming it). Each hit says which rule
found it, where, and with which score; the policy says what follows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tadasu.detectors import japanese, meaning, names
from tadasu.detectors.folding import fold
from tadasu.detectors.trie import NameHit
from tadasu.errors import BadInput, shown
from tadasu.policy import Policy, PromptAction
from tadasu.records import Json, Score

#: Longer prompts are refused; no text encoder in use reads as much.
MAX_CHARACTERS = 4000

_WEIGHT: dict[PromptAction, int] = {"allow": 0, "flag": 1, "block": 2}


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One finding in a text.

    Attributes:
        rule: the detector that found it: ``"names"`` or ``"meaning"``.
        concept: id of the concept.
        start: where it begins in the text, in characters.
        end: where it ends, exclusive.
        text: what stands there.
        because: the name or concept text that it matched, and how.
        score: the measurement, with its unit.
        threshold: from which score on it counts.
        action: what the policy says about prompts that speak of the concept.
    """

    rule: Literal["names", "meaning"]
    concept: str
    start: int
    end: int
    text: str
    because: str
    score: Score
    threshold: float
    action: PromptAction

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {
            "rule": self.rule,
            "concept": self.concept,
            "span": [self.start, self.end],
            "text": self.text,
            "because": self.because,
            "score": self.score.value,
            "unit": self.score.unit,
            "threshold": self.threshold,
            "action": self.action,
        }


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What the screen says about one text.

    Attributes:
        text: as it was given.
        action: the strictest action of all hits; allow without hits.
        hits: in the order of the text.
        embedder: which sentence embedder looked for meaning; None when none did.
        notes: what was not examined, and why.
    """

    text: str
    action: PromptAction
    hits: tuple[Hit, ...]
    embedder: str | None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """For records and ``--json``."""
        return {
            "text": self.text,
            "action": self.action,
            "hits": [hit.as_json() for hit in self.hits],
            "embedder": self.embedder,
            "notes": list(self.notes),
        }


class PromptScreen:
    """A policy made ready to look at texts.

    Args:
        policy: its concepts, actions and thresholds.
        embedder: a sentence embedder; without one only names are looked for, and the record
            says so.
        because: why there is no embedder, for the record.

    >>> screen = PromptScreen(Policy.load("kids"))
    >>> result = screen("a cat next to a p1stol")
    >>> result.action, [(hit.concept, hit.text) for hit in result.hits]
    ('block', [('weapons', 'p1stol')])
    """

    def __init__(
        self,
        policy: Policy,
        embedder: meaning.Embedder | None = None,
        *,
        because: str = "no sentence embedder was handed in",
    ) -> None:
        self.policy = policy
        self.embedder = embedder
        self._because = because
        self._lexicon = names.Lexicon(policy.concepts)
        self._meant = [
            rule for rule in policy.rules if embedder is not None and embedder.name in rule.meaning
        ]
        self._meanings = (
            meaning.Meanings([rule.concept for rule in self._meant], embedder)
            if embedder is not None and self._meant
            else None
        )

    @classmethod
    def of(cls, policy: Policy, pipe: Any = None) -> PromptScreen:
        """The screen that guard and command line use: with the embedder that the policy names.

        Args:
            policy: its concepts, actions and thresholds.
            pipe: a diffusers pipeline, for policies with thresholds of its text encoder.

        Raises:
            BadFile: the embedder's package is there and its model cannot be read.
        """
        from tadasu.backends.transformers.sentences import for_policy

        embedder, because = for_policy(policy, pipe)
        return cls(policy, embedder, because=because)

    def __call__(self, text: str) -> Screening:
        """Screen one text.

        Raises:
            BadInput: the text is empty, too long or has control characters.
        """
        return self.many([text])[0]

    def many(self, texts: Sequence[str]) -> list[Screening]:
        """Screen several texts; the embedder sees them together.

        Raises:
            BadInput: one of the texts is empty, too long or has control characters.
        """
        for text in texts:
            check_prompt(text)
        near = self._meanings.measure(texts) if self._meanings else [[] for _ in texts]
        return [self._decide(text, found) for text, found in zip(texts, near, strict=True)]

    def _decide(self, text: str, near: Sequence[meaning.Nearness]) -> Screening:
        hits = [self._named(text, hit) for hit in self._lexicon.find(text)]
        hits += [hit for found in near if (hit := self._meaning(text, found))]
        hits.sort(key=lambda hit: (hit.start, hit.end, hit.rule))
        actions: list[PromptAction] = ["allow", *(hit.action for hit in hits)]
        return Screening(
            text=text,
            action=max(actions, key=_WEIGHT.__getitem__),
            hits=tuple(hits),
            embedder=self.embedder.name if self.embedder and self._meanings else None,
            notes=self._notes(text, near),
        )

    def _named(self, text: str, hit: NameHit) -> Hit:
        return Hit(
            rule="names",
            concept=hit.concept,
            start=hit.start,
            end=hit.end,
            text=text[hit.start : hit.end],
            because=f"{hit.name} ({hit.how})",
            score=Score(detector=names.NAME, concept=hit.concept, value=1.0, unit=names.UNIT),
            threshold=1.0,
            action=self.policy.rule(hit.concept).prompt,
        )

    def _meaning(self, text: str, found: meaning.Nearness) -> Hit | None:
        assert self.embedder is not None
        rule = self.policy.rule(found.concept)
        score = Score(
            detector=meaning.NAME,
            concept=found.concept,
            value=found.value,
            unit=meaning.UNIT,
            note=f"embedder {self.embedder.name}",
        )
        verdict = score.against(rule.meaning[self.embedder.name])
        if not verdict.flagged:
            return None
        return Hit(
            rule="meaning",
            concept=found.concept,
            start=found.start,
            end=found.end,
            text=text[found.start : found.end],
            because=f"near {found.text!r}",
            score=score,
            threshold=verdict.threshold,
            action=rule.prompt,
        )

    def _notes(self, text: str, near: Sequence[meaning.Nearness]) -> tuple[str, ...]:
        if not self.policy.rules:
            return ()
        notes = []
        if not self._lexicon.reads_japanese and japanese.is_japanese(text):
            notes.append(
                "Japanese was compared letter by letter: readings and verb forms were not looked "
                "for. Install the analyser: pip install 'tadasu[japanese]'"
            )
        if self.embedder is None:
            return (*notes, f"Meaning was not examined: {self._because}.")
        missing = len(self.policy.rules) - len(self._meant)
        if missing:
            notes.append(
                f"Meaning was not examined for {missing} of {len(self.policy.rules)} concepts: the "
                f"policy has no threshold for the embedder {self.embedder.name}."
            )
        if self._meanings and not (near and self._meanings.suits(text)):
            notes.append(
                "Meaning was not examined in the parts of the text whose script "
                f"{self.embedder.name} was not trained on."
            )
        return tuple(notes)


def check_prompt(text: str) -> str:
    """The text itself, if it can be a prompt.

    Raises:
        BadInput: it is empty or invisible, too long, or has control characters or halves of
            surrogate pairs.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadInput(
            f"The prompt has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken. "
            "Shorten it."
        )
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind == "Cs" or (kind == "Cc" and character not in "\t\n\r"):
            raise BadInput(
                f"The prompt has the control character U+{ord(character):04X} at position "
                f"{place}; remove it."
            )
    if not fold(text).text.strip():
        raise BadInput(f"The prompt is empty ({shown(text)}); write what the picture should show.")
    return text
