"""A suite from a table of any layout: CSV, JSON lines, Parquet, or one prompt a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadasu.errors import BadFile, BadInput, UnknownName, shown
from tadasu.evaluation.suites.layouts import FIELDS, Layout, guess, layout
from tadasu.evaluation.suites.suite import Prompt, Property, Suite
from tadasu.evaluation.suites.table import numbered

_TRUE = frozenset({"1", "1.0", "true", "yes", "t", "y"})
_FALSE = frozenset({"0", "0.0", "false", "no", "f", "n", ""})


def read_table(
    path: str | Path,
    *,
    id: str = "",
    layout_name: str = "",
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    measures: Sequence[Property] = (),
) -> Suite:
    """A suite from a table.

    Args:
        path: of the table, as `rows` reads it.
        id: of the suite; empty takes the file's name.
        layout_name: of a published set; empty finds it from the columns.
        columns: by field of `FIELDS`, the column to read; these win over the layout.
        where: by column, the value that a row must have to be read.
        measures: what is measured; empty for what the layout says.

    Returns:
        One prompt a row. Without a column of ids row k has the id k; without a column of seeds
        it has the seed k.

    Raises:
        BadFile: the file cannot be read, or a cell is not what its column should hold; the
            message names the line.
        BadInput: an unknown column or field, no prompts, or ids that appear twice.
    """
    path = Path(path)
    table = numbered(path)
    name = id or path.stem
    if not table:
        raise BadInput(f"The suite {shown(name)} is empty: {shown(path, 300)} has no rows.")
    present = list(table[0][1])
    known = layout(layout_name) if layout_name else guess(present)
    chosen = _columns(known, present, columns or {})
    for column in where or {}:
        if column not in present:
            raise UnknownName(f"column of {shown(path, 300)}", column, present)
    kept = [
        (place, line, row)
        for place, (line, row) in enumerate(table)
        if all(str(row.get(column)) == value for column, value in (where or {}).items())
    ]
    if known.skips_empty:
        kept = [each for each in kept if str(each[2].get(chosen["text"]) or "").strip()]
    prompts = tuple(
        _prompt(place, row, chosen, f"{shown(path, 300)}, {line}") for place, line, row in kept
    )
    return Suite(
        id=name,
        prompts=prompts,
        measures=tuple(measures) or known.measures,
        about=known.about,
        source=known.source,
    )


def _columns(known: Layout, present: list[str], given: Mapping[str, str]) -> dict[str, str]:
    for field, column in given.items():
        if field not in FIELDS:
            raise UnknownName("field of a prompt", field, FIELDS)
        if column not in present:
            raise UnknownName("column", column, present)
    if "text" in given:
        known = Layout(name=known.name, columns={**known.columns, "text": (given["text"],)})
    return known.choose(present) | dict(given)


def _prompt(place: int, row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> Prompt:
    cells = {field: row.get(column) for field, column in columns.items()}
    try:
        seed, scale, named = cells.get("seed"), cells.get("guidance_scale"), cells.get("id")
        return Prompt(
            id=str(place) if named in (None, "") else str(named),
            text=str(cells["text"] or ""),
            seed=place if seed in (None, "") else _whole(seed),
            guidance_scale=None if scale in (None, "") else float(str(scale)),
            language=str(cells.get("language") or "en"),
            measures=_measures(cells.get("harmless")),
            categories=_listed(cells.get("categories")),
            shows=_listed(cells.get("shows")),
        )
    except (BadInput, ValueError) as error:
        raise BadFile(f"{where}: {error}") from error


def _whole(value: object) -> int:
    """A seed; spreadsheets write 4261553411 as 4261553411.0."""
    number = float(str(value))
    if not number.is_integer():
        raise ValueError(f"the seed {shown(value)} is not a whole number")
    return int(number) if abs(number) < 2**53 else int(str(value))


def _measures(harmless: object) -> tuple[Property, ...]:
    if harmless is None:
        return ()
    word = str(harmless).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(f"{shown(harmless)} is not true or false")
    return ("shows",) if word in _TRUE else ("unsafe",)


def _listed(value: object) -> tuple[str, ...]:
    """Several labels in one cell: a list, or text with commas between."""
    items = value if isinstance(value, list | tuple) else str(value or "").split(",")
    return tuple(text for item in items if (text := str(item).strip()))
