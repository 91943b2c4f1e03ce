"""A comparison as one self-contained HTML page, in English and Japanese, without any network."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.evaluation import written
from tadasu.evaluation.comparison import Ask, Cell, Column

if TYPE_CHECKING:
    from PIL.Image import Image


def write(
    path: Path,
    asks: Sequence[Ask],
    columns: Sequence[Column],
    *,
    title: tuple[str, str],
    notes: Sequence[tuple[str, str]],
    measures: Sequence[tuple[str, str, tuple[str, str]]],
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
        rows: prompts per suite whose pictures are shown.

    Raises:
        BadFile: it cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("tadasu.evaluation").joinpath("page.html").read_text("utf-8")
    suites = list(dict.fromkeys(ask.suite for ask in asks))
    grids = {suite: _grid(asks, columns, suite, rows) for suite in suites}
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
        "veiled": cell.unsafe is not False,
        "decision": cell.decision,
        "reasons": "; ".join(cell.reasons),
        "seen": ", ".join(sorted({s.note for s in cell.scores if s.value and s.value >= 0.5})),
    }


def data_uri(image: Image) -> str:
    """A picture as a ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
