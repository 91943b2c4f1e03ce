"""A run as a page, a Markdown document or a table for spreadsheets."""

from __future__ import annotations

from pathlib import Path

from tadasu.errors import BadInput, shown
from tadasu.evaluation import written
from tadasu.evaluation.results import Run

ENDINGS = (".html", ".md", ".csv")


def write(run: Run, path: Path, *, judge: str = "", title: str = "", gallery: int = 3) -> None:
    """Writes a report, whole or not at all.

    Args:
        run: what was found.
        path: ``.html``, ``.md`` or ``.csv``.
        judge: whose scores; empty takes the first judge.
        title: of the report; empty makes one.
        gallery: prompts per suite whose pictures the page shows.

    Raises:
        BadInput: another ending.
        BadFile: it cannot be written.
        MissingPart: HTML needs the extra ``evaluate``.
    """
    from tadasu.evaluation.report.gathered import gather

    if path.suffix not in ENDINGS:
        raise BadInput(f"A report ends in {', '.join(ENDINGS)}; given {shown(path.name)}.")
    found = gather(run, judge=judge, title=title)
    if path.suffix == ".html":
        from tadasu.evaluation.report.page import page

        text = page(run, found, gallery=gallery)
    elif path.suffix == ".md":
        from tadasu.evaluation.report.markdown import markdown

        text = markdown(found)
    else:
        from tadasu.evaluation.report.spreadsheet import spreadsheet

        text = spreadsheet(found)
    written.write(path, text)
