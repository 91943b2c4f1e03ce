"""A run for spreadsheets: one line for each cell of every table."""

from __future__ import annotations

import csv
import io

from tadasu.evaluation.report.gathered import Gathered

COLUMNS = (
    "metric",
    "judge",
    "system",
    "suite",
    "value",
    "low",
    "high",
    "n",
    "prompts",
    "method",
    "corrected",
    "corrected_low",
    "corrected_high",
    "card",
    "note",
)


def spreadsheet(found: Gathered) -> str:
    """The report as CSV; a text that a spreadsheet would run as a formula gets a quote."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for table in found.tables:
        for cell in table.cells.values():
            right = cell.corrected
            row = {**vars(cell), "judge": table.judge}
            row["corrected"] = right.estimate if right else None
            row["corrected_low"] = right.low if right else None
            row["corrected_high"] = right.high if right else None
            writer.writerow({key: _tame(value) for key, value in row.items()})
    return file.getvalue()


def _tame(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
