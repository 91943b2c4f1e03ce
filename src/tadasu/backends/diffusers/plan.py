"""What was asked of a guidance, and the record of what ran."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tadasu.concepts import spoken_of
from tadasu.errors import BadInput, shown
from tadasu.guidance.rule import Rule

if TYPE_CHECKING:
    from tadasu.concepts import Concept

Asked = tuple[tuple["Concept | str", float], ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a rule did in one call of a pipeline, taken from the objects that ran.

    Attributes:
        rule: the rule's name.
        parameters: its parameters.
        concepts: per prompt the texts that were guarded against, joined texts as one.
        strengths: per prompt the strength of each of those texts.
        guidance_scale: the pipeline's scale at the first step.
        rows: rows that went through the denoiser at each step, those of other rules included.
        concept_rows: this rule's own rows at each step.
        chosen: per image the texts that were looked at, for a rule that chooses the likest; else
            None.
        steps: steps that the pipeline made, each of which the rule saw.
        acted: per picture the steps on which the rule acted: those on which one of its concepts was
            predicted for it, its text was changed, or, for a rule without concepts, all.
    """

    rule: str
    parameters: dict[str, float | int | bool | str]
    concepts: tuple[tuple[str, ...], ...]
    strengths: tuple[tuple[float, ...], ...]
    guidance_scale: float
    rows: tuple[int, ...]
    concept_rows: tuple[int, ...]
    chosen: tuple[tuple[str, ...], ...] | None = None
    steps: int = 0
    acted: tuple[int, ...] = ()


@dataclass(eq=False, kw_only=True)
class Layer:
    """One attached rule with its concepts.

    Attributes:
        rule: the rule.
        per_prompt: concepts and strengths per prompt.
        everywhere: concepts and strengths for every prompt; used where ``per_prompt`` is None.
        record: what ran in the latest call.
    """

    rule: Rule[Any]
    everywhere: Asked
    per_prompt: tuple[Asked, ...] | None
    record: Record | None = None

    @classmethod
    def plan(cls, rule: Rule[Any], concepts: Any, strength: Any) -> Layer:
        """Check what was asked for and pair each concept with its strength.

        Raises:
            BadInput: no concepts, an empty text, or strengths that are not finite or of another
                number than the concepts.
        """
        concepts = spoken_of(concepts)
        if isinstance(concepts, str):
            concepts = (concepts,)
        rule.ready()
        if rule.needs == "nothing" and concepts:
            raise BadInput(f"The rule {rule.name} takes no concepts.")
        if rule.needs == "nothing" and strength != 1:
            raise BadInput(f"The rule {rule.name} has no strength; change its parameters instead.")
        nested = any(isinstance(item, list | tuple) for item in concepts)
        if not concepts and rule.needs != "nothing":
            raise BadInput(f"The rule {rule.name} needs at least one concept to steer away from.")
        if not nested:
            return cls(rule=rule, everywhere=_pair(rule, concepts, strength), per_prompt=None)
        if not all(isinstance(item, list | tuple) for item in concepts):
            raise BadInput("Give concepts for all prompts, or one list per prompt, not a mixture.")
        if isinstance(strength, int | float):
            strength = [strength] * len(concepts)
        if len(strength) != len(concepts):
            raise BadInput(
                f"{len(strength)} lists of strengths were given for {len(concepts)} prompts."
            )
        pairs = (_pair(rule, *both) for both in zip(concepts, strength, strict=True))
        return cls(rule=rule, everywhere=(), per_prompt=tuple(pairs))

    def asked(self, prompts: int) -> tuple[Asked, ...]:
        """Concepts and strengths for each prompt of a call.

        Raises:
            BadInput: there is not one list of concepts per prompt.
        """
        if self.per_prompt is None:
            return (self.everywhere,) * prompts
        if len(self.per_prompt) != prompts:
            raise BadInput(
                f"Concepts were given for {len(self.per_prompt)} prompts, but the pipeline was "
                f"called with {prompts}."
            )
        return self.per_prompt


def text_of(concept: Concept | str) -> str:
    """The text that guidance conditions on."""
    return concept if isinstance(concept, str) else concept.text


def texts_of(rule: Rule[Any], concept: Concept | str) -> tuple[str, ...]:
    """The texts that a rule gets for a concept: one, or all prompts and English names."""
    if isinstance(concept, str) or not rule.candidates:
        return (text_of(concept),)
    return tuple(dict.fromkeys((*concept.prompts, *concept.names.get("en", ()))))


def check_strength(value: Any) -> None:
    """Refuse what cannot be a strength.

    Raises:
        BadInput: not a number, not finite, or below 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"A strength must be a number, not {shown(value)}.")
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"A strength must be a finite number from 0 on, not {shown(value)}.")


def _pair(rule: Rule[Any], concepts: Sequence[Any], strength: Any) -> Asked:
    """Each concept with its strength."""
    strengths = [strength] * len(concepts) if isinstance(strength, int | float) else list(strength)
    if len(strengths) != len(concepts):
        raise BadInput(f"{len(strengths)} strengths were given for {len(concepts)} concepts.")
    for value in strengths:
        check_strength(value)
    for concept in concepts:
        if not isinstance(concept, str) and not isinstance(getattr(concept, "text", None), str):
            raise BadInput(f"{shown(concept)} is neither a concept nor a text.")
        if not text_of(concept).strip():
            raise BadInput(f"The rule {rule.name} was given an empty concept.")
    return tuple(zip(concepts, (float(value) for value in strengths), strict=True))
