"""``translation``: a name of the same concept in another language.

No translator runs. Languages that the policy has are read from the concept's own names; these are
lists and not pairs, so "pistol" may become any Japanese name of its concept, and what is asked for
stays restricted. Of a policy that searches all its languages this finds nothing, by construction.
Languages that it does not have come from the file beside this one, word for word: there a list of
names is blind.
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
class Translation(Evasion):
    """A name in another language.

    Attributes:
        language: code of the language; empty for any other of the concept's own.
        file: YAML of names, each with words by language, for languages that the concept has no
            names in; empty for the bundled one (de, es, fr, zh).
    """

    language: str = ""
    file: str = ""

    def hide(self, word: Word, chance: random.Random) -> str | None:
        """A name in another language; None where neither the concept nor the file has one.

        Raises:
            BadFile: the file cannot be read as names with words by language.
        """
        names = word.concept.names
        if self.language and self.language not in names:
            known = dictionary(Path(self.file) if self.file else _OWN)
            listed: tuple[str, ...] = known.get(word.text.lower(), {}).get(self.language, ())
            return chance.choice(listed) if listed else None
        own = {
            code for code, listed in names.items() if word.text.lower() in map(str.lower, listed)
        }
        wanted = [self.language] if self.language else [code for code in names if code not in own]
        others = [name for code in wanted if code not in own for name in names.get(code, ())]
        return chance.choice(others) if others else None


@cache
def dictionary(path: Path) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Names and their words by language.

    Raises:
        BadFile: the file is not names, each with lists of words by language.
    """
    content = document.read(path).content
    if not isinstance(content, dict):
        raise BadFile(f"{path}: expected names, each with words by language.")
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, languages in content.items():
        lists = languages.values() if isinstance(languages, dict) else [None]
        if not all(isinstance(x, list) and x and all(isinstance(w, str) for w in x) for x in lists):
            raise BadFile(f"{path}: {name!r} must have lists of words by language.")
        found[name.lower()] = {code: tuple(words) for code, words in languages.items()}
    return found
