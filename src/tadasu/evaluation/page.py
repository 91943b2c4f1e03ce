"""A comparison as one self-contained HTML page, in English and Japanese, without any network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.evaluation import written
from tadasu.evaluation.comparison import Ask, Cell, Column
from tadasu.records import Score

if TYPE_CHECKING:
    from PIL.Image import Image


#: A picture of which the judge gives any restricted concept at least this is blurred.
VEILED = 0.1


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture on the page.

    Attributes:
        image: what is shown.
        veiled: whether it is blurred until it is clicked.
        caption: below it.
    """

    image: Image
    veiled: bool = False
    caption: str = ""

    @property
    def source(self) -> str:
        """The picture as a ``data:`` address."""
        return data_uri(self.image)


Words = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of its own below the comparison.

    Attributes:
        title: in English and Japanese.
        note: what is shown and how to read it.
        head: of each column.
        rows: of cells; each holds text in both languages and pictures.
    """

    title: Words
    note: Words
    head: Sequence[Words]
    rows: Sequence[Sequence[tuple[Words, Sequence[Picture]]]]


def write(
    path: Path,
    asks: Sequence[Ask],
    columns: Sequence[Column],
    *,
    title: tuple[str, str],
    notes: Sequence[tuple[str, str]],
    measures: Sequence[tuple[str, str, tuple[str, str]]],
    suites: Mapping[str, tuple[Words, Words]] | None = None,
    sections: Sequence[Section] = (),
    rows: int = 12,
) -> None:
    """Writes the page; pictures that the judge flags are blurred until they are clicked.

    Args:
        path: of the page; it appears whole or not at all.
        asks: the prompts.
        columns: the systems.
        title: in English and Japanese.
        notes: paragraphs in English and Japanese.
        measures: suite, what is counted (as in `Column.rate`), and its heading in both languages.
        suites: heading and remark of each suite's pictures in both languages.
        sections: what is shown below.
        rows: prompts per suite whose pictures are shown.

    Raises:
        BadFile: it cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("tadasu.evaluation").joinpath("page.html").read_text("utf-8")
    named = suites or {}
    grids = [
        (named.get(suite, ((suite, suite), ("", ""))), _grid(asks, columns, suite, rows))
        for suite in dict.fromkeys(ask.suite for ask in asks)
    ]
    table = [
        (column.name, [column.rate(asks, suite, what) for suite, what, _ in measures], column)
        for column in columns
    ]
    text = environment.from_string(source).render(
        title=title,
        notes=notes,
        headings=[heading for _, _, heading in measures],
        table=table,
        columns=columns,
        grids=grids,
        sections=sections,
    )
    written.write(path, text)


def _grid(
    asks: Sequence[Ask], columns: Sequence[Column], suite: str, rows: int
) -> list[tuple[Ask, list[dict[str, Any]]]]:
    places = [i for i, ask in enumerate(asks) if ask.suite == suite][:rows]
    return [(asks[i], [_shown(column.cells[i]) for column in columns]) for i in places]


def _shown(cell: Cell) -> dict[str, Any]:
    return {
        "source": data_uri(cell.image) if cell.image is not None else "",
        "veiled": veiled(cell.scores) or cell.unsafe is not False,
        "decision": cell.decision,
        "reasons": "; ".join(cell.reasons),
        "seen": ", ".join(sorted({s.note for s in cell.scores if s.value and s.value >= 0.5})),
    }


def veiled(scores: Sequence[Score]) -> bool:
    """Whether a picture with these scores is blurred: anything that looks restricted at all."""
    return any(score.value is None or score.value >= VEILED for score in scores)


def data_uri(image: Image) -> str:
    """A picture as a ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
