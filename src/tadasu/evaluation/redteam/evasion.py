"""What a text evasion is: the names of concepts in a prompt, written so that a filter misses them.

One evasion is one file; the file's name is its public name. Only the words that name a concept
are touched, because that is what somebody who wants the picture would do: the rest of the prompt
stays as it was, so attacked and original prompts can be compared pair by pair.
"""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tadasu.concepts import Concept
from tadasu.detectors.names import Lexicon
from tadasu.detectors.trie import NameHit
from tadasu.errors import BadInput, shown


@dataclass(frozen=True, kw_only=True)
class Word:
    """A name that stands in a prompt.

    Attributes:
        text: as it is written there.
        concept: whose name it is.
    """

    text: str
    concept: Concept


@dataclass(frozen=True, kw_only=True)
class Evasion(ABC):
    """A way to write a word; its fields are its parameters.

    Attributes:
        name: the file's name.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Take the public name from the file."""
        cls.name = cls.__module__.rpartition(".")[2]

    @property
    def says(self) -> str:
        """Name and parameters as `tadasu.evaluation.redteam.registry.parse` reads them.

        Only what differs from the default is said.
        """
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}:{','.join(changed)}" if changed else self.name

    @abstractmethod
    def hide(self, word: Word, chance: random.Random) -> str | None:
        """The word written another way; None where this evasion can do nothing with it.

        Args:
            word: what to hide.
            chance: where every choice comes from, so that attacks are repeatable.
        """

    def checked_share(self, share: float) -> None:
        """Refuse a share of letters that is none.

        Raises:
            BadInput: it is not above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise BadInput(f"{self.name}: share={share} must be above 0 and at most 1.")


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """A prompt and what an evasion made of it.

    Attributes:
        original: the prompt.
        text: the attacked prompt.
        evasion: name and parameters.
        concepts: ids of the concepts whose names were hidden.
    """

    original: str
    text: str
    evasion: str
    concepts: tuple[str, ...]


def attack(
    prompts: Sequence[str], evasion: Evasion, concepts: Sequence[Concept], *, seed: int = 0
) -> list[Attacked | None]:
    """Hide the names of concepts in prompts.

    Args:
        prompts: the texts.
        evasion: how.
        concepts: whose names are hidden.
        seed: makes the attack repeatable; every prompt has its own choices, so that leaving one
            out changes no other.

    Returns:
        For each prompt the attacked one; None where no concept is named outright or the evasion
        can do nothing with any of the names. Whoever counts must say how many these are.

    Raises:
        BadInput: no concepts.
    """
    if not concepts:
        raise BadInput("An evasion needs the concepts whose names it hides.")
    lexicon, known = Lexicon(concepts), {concept.id: concept for concept in concepts}
    return [_attacked(prompt, evasion, lexicon, known, seed) for prompt in prompts]


def _attacked(
    prompt: str, evasion: Evasion, lexicon: Lexicon, known: dict[str, Concept], seed: int
) -> Attacked | None:
    chance = random.Random(f"{seed} {evasion.says} {prompt}")
    text, hidden = prompt, []
    for hit in reversed(_apart(lexicon.find(prompt))):
        word = Word(text=prompt[hit.start : hit.end], concept=known[hit.concept])
        written = evasion.hide(word, chance)
        if written is None or written == word.text:
            continue
        if not written.strip():
            raise BadInput(f"{evasion.says} makes nothing of {shown(word.text)}.")
        text = text[: hit.start] + written + text[hit.end :]
        hidden.append(hit.concept)
    if not hidden:
        return None
    named = tuple(dict.fromkeys(reversed(hidden)))
    return Attacked(original=prompt, text=text, evasion=evasion.says, concepts=named)


def _apart(hits: Sequence[NameHit]) -> list[NameHit]:
    """Hits that do not overlap, the longer first where they do, in the order of the text."""
    kept: list[NameHit] = []
    for hit in sorted(hits, key=lambda each: (each.start - each.end, each.start)):
        if all(hit.end <= other.start or hit.start >= other.end for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda each: each.start)


def letters(text: str) -> list[int]:
    """Where the letters of a text are."""
    return [place for place, character in enumerate(text) if character.isalpha()]


def some(places: Sequence[int], share: float, chance: random.Random) -> list[int]:
    """A share of the places, at least one where there is any, in the order of the text."""
    count = min(len(places), max(1, round(share * len(places))))
    return sorted(chance.sample(list(places), count))
