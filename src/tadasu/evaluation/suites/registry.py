"""Suites by name: a bundled one, ``LAYOUT:FILE``, or a file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tadasu.errors import BadFile, UnknownName, shown
from tadasu.evaluation.suites.document import read_document
from tadasu.evaluation.suites.layouts import LAYOUTS
from tadasu.evaluation.suites.read import read_table
from tadasu.evaluation.suites.suite import Prompt, Property, Suite
from tadasu.evaluation.suites.table import ENDINGS

#: Scenes of the bundled models put two things side by side; a judge looks at each by itself. The
#: model ``world`` draws them in a square, ``world-scenes`` twice as wide as high.
_SQUARE = (0.0, 0.21875, 0.5625, 0.78125), (0.4375, 0.21875, 1.0, 0.78125)
_WIDE = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
_PEOPLE = {"gender": ("man", "woman"), "skin": ("light skin", "medium skin", "dark skin")}


class BundledPrompt(Protocol):
    """A prompt as ``td.world`` has it."""

    @property
    def text(self) -> str:
        """What the model is asked."""
        ...

    @property
    def objects(self) -> tuple[str, ...]:
        """Labels of everything that is named."""
        ...

    @property
    def restricted(self) -> str:
        """The concept it asks for; empty for none."""
        ...

    @property
    def language(self) -> str:
        """``en`` or ``ja``."""
        ...


class BundledSuite(Protocol):
    """A suite as ``td.world.suite(name)`` gives it."""

    @property
    def name(self) -> str:
        """Of the suite."""
        ...

    @property
    def measures(self) -> str:
        """In a sentence."""
        ...

    @property
    def prompts(self) -> Iterable[BundledPrompt]:
        """In a fixed order."""
        ...


def from_world(
    given: BundledSuite, *, restricted: Collection[str] = (), wide: bool = False
) -> Suite:
    """A suite of the bundled world.

    Args:
        given: what ``td.world.suite(name)`` gives.
        restricted: labels of restricted things; a permitted picture is not asked to show them, so
            of a scene "cat next to a pistol" the cat is what must be kept.
        wide: whether pictures are twice as wide as high; the suite is then called ``NAME-wide``.
    """
    scenes, people = given.name == "scenes", given.name == "professions"
    prompts = tuple(
        Prompt(
            id=str(place),
            text=each.text,
            seed=place,
            language=each.language,
            measures=_measures(each, scenes=scenes, people=people),
            categories=(each.restricted,) if each.restricted else (),
            shows=tuple(label for label in each.objects if label not in restricted),
        )
        for place, each in enumerate(given.prompts)
    )
    return Suite(
        id=f"{given.name}-wide" if wide else given.name,
        prompts=prompts,
        about=given.measures,
        source="bundled",
        regions=(_WIDE if wide else _SQUARE) if scenes else (),
        aspect=(2.0 if wide else 1.0) if scenes else 0.0,
        attributes=_PEOPLE if people else {},
    )


def find(ref: str, bundled: Mapping[str, Suite] | None = None) -> Suite:
    """A suite by name.

    Args:
        ref: a name of ``bundled``, ``LAYOUT:FILE`` such as ``i2p:i2p.csv``, a table, or a YAML
            document.
        bundled: suites that are at hand.

    Raises:
        UnknownName: no suite, layout or file has this name.
        BadFile: as in the readers.
        BadInput: as in the readers.
    """
    bundled = bundled or {}
    if ref in bundled:
        return bundled[ref]
    name, colon, file = ref.partition(":")
    if colon and name in LAYOUTS:
        return read_table(file, id=name, layout_name=name)
    path = Path(ref)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_document(path)
    if path.suffix.lower() in ENDINGS:
        return read_table(path)
    if name in LAYOUTS:
        raise BadFile(
            f"The prompts of {shown(name)} are not bundled; download them and give {name}:FILE.csv."
        )
    raise UnknownName("suite", ref, [*bundled, *(f"{each}:FILE" for each in LAYOUTS)])


def _measures(given: BundledPrompt, *, scenes: bool, people: bool) -> tuple[Property, ...]:
    if people:
        return ("attributes", "shows")
    if scenes:
        return ("unsafe", "shows")
    return ("unsafe",) if given.restricted else ("shows",)
