"""Does an edit hold in pictures? Drawn before and after from the same seeds, and judged.

Three kinds of prompts, each in sentences that no edit is solved for: the changed names, the texts
that must stay, and things that have nothing to do with it. A changed name passes when it is seen in
so few pictures that the upper 95 % limit of its share is at most
:data:`tadasu.editing.limits.SHOWN`; what stays passes unless it is surely seen less often than
before (the upper limit after the edit lies below the share before it). With few pictures nothing is
sure, and a changed name does not pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from tadasu.editing.limits import SHOWN
from tadasu.editing.targets import plain
from tadasu.errors import BadInput
from tadasu.statistics.intervals import Rate

if TYPE_CHECKING:
    from tadasu.editing.edit import Edit
    from tadasu.editing.models import Model
    from tadasu.editing.preview import See
    from tadasu.records import Json

#: Fewest pictures of a name with which it can pass: of 12, none may show it.
FEWEST = 12
#: Sentences that pictures are drawn from; "a picture of a" is what edits are solved for.
DRAWN = ("the {}", "a photo of a {}")
#: Texts of a kind that are drawn at most.
MOST = 8


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One text in pictures.

    Args:
        kind: ``changed``, ``preserved`` or ``unrelated``.
        text: a name, a preserved text, or a thing.
        before: pictures without the edit in which it is seen.
        after: pictures with it.
    """

    kind: str
    text: str
    before: Rate
    after: Rate

    @property
    def passed(self) -> bool:
        """Whether the edit holds for this text."""
        if self.kind == "changed":
            return self.after.high <= SHOWN
        return self.after.high >= self.before.value

    def as_json(self) -> dict[str, Json]:
        """For ``--json``."""
        return {
            "kind": self.kind,
            "text": self.text,
            "passed": self.passed,
            "before": {**self.before.as_json()},
            "after": {**self.after.as_json()},
        }


def judged(
    edit: Edit, model: Model, see: See, *, pictures: int, unrelated: Sequence[str] = ()
) -> tuple[Shown, ...]:
    """Draw and judge.

    Args:
        edit: an erasure, replacement or moderation.
        model: without the edit.
        see: names what is in pictures.
        pictures: of each text, before and after each; over two sentences, each from its own seed.
        unrelated: things that the judge knows and the edit should not touch.

    Raises:
        BadInput: fewer pictures than a name can pass with, or a debiasing edit.
    """
    if pictures < FEWEST:
        raise BadInput(
            f"With {pictures} pictures no edit can pass; draw {FEWEST} or more of each text."
        )
    if any(target["attributes"] for target in edit.recipe["targets"]):
        raise BadInput("A debiasing edit removes nothing; balance it with the debias loop instead.")
    names = [target["texts"][0] for target in edit.recipe["targets"]]
    texts = [
        *(("changed", text) for text in names[:MOST]),
        *(("preserved", text) for text in list(edit.recipe["preserve"])[:MOST]),
        *(("unrelated", text) for text in unrelated[:MOST]),
    ]
    return tuple(_shown(edit, model, see, kind, text, pictures) for kind, text in texts)


def _shown(edit: Edit, model: Model, see: See, kind: str, text: str, count: int) -> Shown:
    wanted = list(product(range(-(-count // len(DRAWN))), DRAWN))[:count]
    prompts, seeds = [form.replace("{}", text) for _, form in wanted], list(range(count))
    before = see(model.draw(prompts, seeds, None))
    with model.applied(edit.maps):
        after = see(model.draw(prompts, seeds, None))
    return Shown(kind=kind, text=text, before=_rate(text, before), after=_rate(text, after))


def _rate(text: str, seen: Sequence[AbstractSet[str]]) -> Rate:
    """Pictures in which something is seen whose name is, or stands in, the text."""
    words = f" {plain(text)} "
    hits = sum(any(f" {plain(name)} " in words for name in names) for names in seen)
    return Rate(count=hits, n=len(seen))


def apart(edit: Edit, things: Sequence[str], count: int = 3) -> tuple[str, ...]:
    """Some things, evenly spread, that share no word with what an edit changes or preserves."""
    texts = [text for target in edit.recipe["targets"] for text in target["texts"]]
    words: set[Any] = {
        w for text in (*texts, *edit.recipe["preserve"]) for w in plain(text).split()
    }
    free = [thing for thing in things if not words & set(plain(thing).split())]
    return tuple(free[:: max(1, len(free) // count)][:count])
