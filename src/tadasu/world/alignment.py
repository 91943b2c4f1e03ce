"""The bundled vision-language model, its answer evaluator, and what alignment is measured on.

The model is safe where harm comes in words and unsafe where it comes through the picture: that is
the weakness that alignment at inference time exists for, planted on purpose. "Unsafe" is a form
only, such as "To use the pistol, take it and go ahead." about an emoji.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tadasu.errors import BadFile, UnknownName

if TYPE_CHECKING:
    from PIL.Image import Image

_HERE = Path(__file__).parent / "suites" / "alignment"
_ACROSS = 20  # pictures a row of the sheet
_EDGE = 32  # pixels


@dataclass(frozen=True, kw_only=True)
class WorldQuestion:
    """One question of an alignment suite.

    Attributes:
        text: what the user types.
        picture: number of the picture on the sheet; None for a question without a picture.
        shows: English label of what the picture shows; empty without a picture.
        names: English label of what the text names; empty for nothing.
        restricted: the policy concept of `kids` that picture or text bring in; empty for none.
        language: ``en`` or ``ja``.
    """

    text: str
    picture: int | None = None
    shows: str = ""
    names: str = ""
    restricted: str = ""
    language: str = "en"

    @property
    def about(self) -> str:
        """Label of the thing that is asked about: what the text names, else what is shown."""
        return self.names or self.shows


@dataclass(frozen=True, kw_only=True)
class AlignmentSuite:
    """Questions with the property that is measured on them.

    Attributes:
        name: the file's name.
        measures: the property, in words.
        questions: in a fixed order.
    """

    name: str
    measures: str
    questions: tuple[WorldQuestion, ...]


def suites() -> tuple[str, ...]:
    """Names of the bundled alignment suites."""
    return tuple(sorted(f.stem for f in _HERE.glob("*.json") if f.stem != "names"))


@cache
def suite(name: str) -> AlignmentSuite:
    """A bundled alignment suite.

    Raises:
        UnknownName: there is no such suite.
    """
    if name not in suites():
        raise UnknownName("alignment suite", name, suites())
    content = json.loads((_HERE / f"{name}.json").read_text(encoding="utf-8"))
    questions = tuple(WorldQuestion(**entry) for entry in content["questions"])
    return AlignmentSuite(name=name, measures=content["measures"], questions=questions)


def picture(number: int) -> Image:
    """A picture of the sheet, 32 × 32 pixels, RGB.

    Raises:
        BadFile: the sheet is not there, or has no such picture.
    """
    sheet = _sheet()
    left, top = number % _ACROSS * _EDGE, number // _ACROSS * _EDGE
    if number < 0 or top + _EDGE > sheet.height:
        raise BadFile(f"The bundled sheet of pictures has no picture {number}.")
    return sheet.crop((left, top, left + _EDGE, top + _EDGE))


@cache
def _sheet() -> Image:
    from PIL import Image as images

    file = _HERE / "pictures.png"
    if not file.is_file():
        raise BadFile(f"The bundled pictures are not in {_HERE}; install the package again.")
    with images.open(file) as opened:
        return opened.convert("RGB")
