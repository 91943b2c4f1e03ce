"""``tadasu audit``: what shared files taught the model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results, table
from tadasu.cli.progress import span
from tadasu.errors import shown

if TYPE_CHECKING:
    from tadasu.auditing.findings import Finding
    from tadasu.records import Json


def audit(
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders that are searched.", show_default=False)
    ],
    base: Annotated[
        str, typer.Option("--base", "-b", help="The files' model: world, a folder or a hub id.")
    ] = "world",
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    concepts: Annotated[
        list[str] | None,
        typer.Option("--concepts", "-c", help="Only this concept of bank or policy; repeat it."),
    ] = None,
    bank: Annotated[
        Path | None,
        typer.Option("--bank", help="A concept bank; the bundled base's own, else yours."),
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="calibrated, or paia for the published reading.")
    ] = "calibrated",
    strength: Annotated[
        list[float] | None,
        typer.Option("--strength", help="Strength the files are probed at; repeat it, as 1 and 2."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Examine all files as if used at once.")
    ] = False,
    known: Annotated[
        Path | None,
        typer.Option("--known", help="An index of known files; copies and merges are told."),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="local or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", help="Actors of the engine ray.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Folder for the page, tables and kept results."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Say what shared files taught the model, without generating a picture.

    Exit code 1 when anything is present, undecided or unreadable. With --report an audit that was
    stopped goes on where it was.

    Example: tadasu world samples &&
    tadasu audit samples/downloads --report audit
    """
    from tadasu.errors import UnknownName
    from tadasu.examination import exports
    from tadasu.examination import report as pages
    from tadasu.examination.run import ENGINES, audit, bank_of

    chosen = next((known for known in ENGINES if known == engine), None)
    if chosen is None:
        raise UnknownName("engine", engine, ENGINES)
    where = bank or bank_of(base)
    found = list(
        audit(
            paths,
            base=base,
            bank=where,
            policy=policy,
            concepts=concepts or (),
            preset=preset,
            strengths=strength or (),
            together=together,
            engine=chosen,
            workers=workers,
            known=known,
            folder=report / "kept" if report else None,
            progress=Told(),
        )
    )
    about: dict[str, Json] = {
        "base": base,
        "bank": str(where),
        "policy": policy,
        "preset": preset,
        "strengths": list(strength or ()),
    }
    if report is not None:
        from tadasu.auditing.bank import Bank

        exports.write(report, found, about)
        pages.write(report / "report.html", found, Bank.load(where), about)
        messages().print(f"Report: {escape(str(report / 'report.html'))}")
    if json_output:
        print_json(exports.as_json(found, about))
    else:
        _print(found)
    raise typer.Exit(int(any(finding.found for finding in found)))


class Told:
    """Progress on standard error: rate and time left, a line per file that is not clear."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.console = messages()

    def __call__(self, file: str, found: list[Finding], done: int, total: int) -> None:
        """After every file; the rate leaves out the first, which waits for what all files share."""
        now = time.monotonic()
        pace = "" if self.first is None else _pace(done - 1, now - self.first, total - done)
        self.first = now if self.first is None else self.first
        worst = [each for each in found if each.found]
        word = ", ".join(f"{each.concept or 'file'} {each.conclusion}" for each in worst[:4])
        name = escape(_name(file))
        self.console.print(f"{done}/{total}  {pace}{name}: {escape(word) or 'clear'}")


def _pace(done: int, seconds: float, left: int) -> str:
    """How fast it goes and how long it still takes.

    >>> _pace(10, 60.0, 20)
    '10.0 files a minute, 2 min left  '
    """
    rate = done / max(seconds, 1e-9)
    return f"{rate * 60:.1f} files a minute, {span(left / rate)} left  "


def _name(file: str) -> str:
    return file if file.isprintable() else shown(file, 300)


def _print(found: list[Finding]) -> None:
    from tadasu.auditing.findings import blood_test

    rows = table("file", "concept", "conclusion", "score", "share of pictures", "recommended")
    for finding in found:
        if not finding.found:
            continue
        limits = finding.interval
        rows.add_row(
            escape(_name(finding.file)),
            escape(finding.concept) if finding.concept else escape(finding.reason),
            finding.conclusion,
            "" if finding.score is None else f"{finding.score:.1f}",
            "" if limits is None else f"{limits.low:.2f} to {limits.high:.2f}",
            str(finding.response),
        )
    if rows.row_count:
        results().print(rows)
    counts = blood_test(found)
    results().print(
        f"Blood test: {counts['present']} taught, {counts['undecided']} undecided, "
        f"{counts['unreadable']} unreadable, {counts['absent']} clear."
    )
