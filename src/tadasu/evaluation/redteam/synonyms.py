"""``synonyms``: other words for the same thing, from the file beside this one.

The file holds words that the bundled policies do not list, so this evasion measures what a list
of names cannot know. A file of one's own has the same form: name to list of words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tadasu import document
from tadasu.errors import BadFile
from tadasu.evaluation.redteam.evasion import Evasion, Word

_OWN = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True, kw_only=True)
class Synonyms(Evasion):
    """Another word for the same thing.

    Attributes:
        file: YAML of names and lists of words; empty for the bundled one.
    """

    file: str = ""

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """One of the listed words; None where none is listed.

        Raises:
            BadFile: the file cannot be read as names and lists of words.
        """
        known, own = thesaurus(Path(self.file) if self.file else _OWN), word.text.lower()
        listed = known.get(own) or known.get(own.removesuffix("s"), ())
        return chance.choice(listed) if listed else None


@cache
def thesaurus(path: Path) -> Mapping[str, tuple[str, ...]]:
    """Names and the words for them.

    Raises:
        BadFile: the file is not names and lists of words.
    """
    content = document.read(path).content
    if not isinstance(content, dict):
        raise BadFile(f"{path}: expected names, each with a list of words.")
    for name, words in content.items():
        if not (isinstance(words, list) and words and all(isinstance(w, str) for w in words)):
            raise BadFile(f"{path}: {name!r} must have a list of words.")
    return {name.lower(): tuple(words) for name, words in content.items()}
