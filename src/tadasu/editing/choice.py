"""Which solver and which rows an edit gets when nobody names them, and why.

Three solvers cover all cases, and each has a measured limit (``docs/editing/measured.md``):

===============================  ===============  =============================================
asked for                        solver           because
===============================  ===============  =============================================
an edit attached at run time     ``conditional``  prompts without its concepts stay as they are
few names, written into a file   ``uce``          one linear map; also as a LoRA, every family
many names, written into a file  ``layer``        gates: a narrow model has no room for more
===============================  ===============  =============================================

Few is one name for every 16 directions of the context: 16 names at width 256, 48 at 768, 128 at
2048. Nothing is chosen silently: the reason is part of the recipe and of what the command prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tadasu.errors import UnknownName
from tadasu.records import Json

if TYPE_CHECKING:
    from tadasu.editing.tokens import Mode

#: Directions of the context that one name takes up in a linear map.
DIRECTIONS_PER_NAME = 16
#: Per kind of concept the rows that are edited. ``layer`` takes the name's first words as well,
#: because its gates can leave them alone where they stand in other texts.
KINDS: MappingProxyType[str, Mode] = MappingProxyType(
    {
        # A text encoder that reads from left to right carries a thing on its own word and behind.
        "object": "last+tail",
        "person": "last+tail",
        # Words around a style's name stand in other prompts too, so they stay as they are.
        "style": "last+tail",
        # Violence, hate: no single word carries it, and its texts are nothing else.
        "idea": "all",
    }
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the choice depends on.

    Args:
        names: how many names change, over all concepts and languages.
        width: of the context.
        run_time: the edit will be attached to a pipeline, not written into a file.
        kept: whether texts are known for which gates have to stay shut.
        layered: whether the text encoder takes one more layer.
    """

    names: int
    width: int
    run_time: bool = False
    kept: bool = False
    layered: bool = False

    @property
    def room(self) -> int:
        """How many names one linear map of this width holds without harm to the rest."""
        return max(1, self.width // DIRECTIONS_PER_NAME)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A solver, and the reason in a sentence.

    Args:
        solver: its public name.
        reason: why this one.
        warning: what to expect where no solver fits well; empty where one does.
    """

    solver: str
    reason: str
    warning: str = ""

    def as_json(self) -> dict[str, Json]:
        """For recipes and reports."""
        return {"solver": self.solver, "reason": self.reason, "warning": self.warning}


def choose(given: Setting) -> Choice:
    """The solver for a setting.

    >>> choose(Setting(names=2, width=768)).solver
    'uce'
    >>> choose(Setting(names=200, width=768, kept=True, layered=True)).solver
    'layer'
    >>> choose(Setting(names=2, width=768, kept=True, run_time=True)).solver
    'conditional'
    """
    size = f"{given.names} names, contexts {given.width} wide"
    if given.run_time and given.kept:
        return Choice(
            solver="conditional",
            reason="attached at run time: prompts without its concepts stay bit for bit",
        )
    few = given.names <= given.room
    if few or not (given.kept and given.layered):
        reason = f"{size}: one linear map holds up to {given.room}"
        return Choice(solver="uce", reason=reason, warning=_missing(given, few))
    return Choice(
        solver="layer",
        reason=f"{size}: more than the {given.room} that one linear map holds; gates tell them "
        "apart and survive in a model folder (not as a LoRA)",
    )


def _missing(given: Setting, few: bool) -> str:
    """Why a better solver could not be taken."""
    if (given.run_time or not few) and not given.kept:
        better = "conditional" if given.run_time else "layer" if given.layered else "conditional"
        return (
            f"{better} would keep the rest better, but its gates need texts to stay shut for: "
            "give a preserve list or captions."
        )
    if not few:
        return (
            "too many names for a linear map of this width, and this family takes no further text "
            "layer: expect harm to other prompts, or attach the edit at run time."
        )
    return ""


def tokens_for(kind: str) -> Mode:
    """The rows that stand for a concept of a kind.

    Raises:
        UnknownName: there is no such kind.

    >>> tokens_for("object"), tokens_for("idea")
    ('last+tail', 'all')
    """
    if kind not in KINDS:
        raise UnknownName("kind of concept", kind, KINDS)
    return KINDS[kind]
