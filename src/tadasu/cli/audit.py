"""``tadasu audit``: what shared files taught the model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import messages, results, table
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
    resolution: Annotated[
        int,
        typer.Option("--resolution", min=0, help="Edge of pictures in pixels; 0: the model's."),
    ] = 0,
    gradients: Annotated[
        int,
        typer.Option("--gradients", min=0, help="Pictures a concept for gradients; 0: preset's."),
    ] = 0,
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

    Exit code 1 unless every file is clear. With --report an audit that was
    stopped goes on where it was.

    Example: tadasu world samples &&
    tadasu audit samples/downloads --report audit
    """
    from tadasu.errors import UnknownName
    from tadasu.examination.run import ENGINES, audit, bank_of
    from tadasu.examination.settings import settings

    chosen = next((known for known in ENGINES if known == engine), None)
    if chosen is None:
        raise UnknownName("engine", engine, ENGINES)
    where = bank or bank_of(base)
    about: dict[str, Json] = {
        "base": base,
        "bank": where.name,
        "policy": policy,
        "preset": preset,
        "strengths": list(strength or settings(preset).strengths),
        "resolution": resolution,
    }
    kept = report / "kept" if report else None
    if kept is not None and not kept.exists():
        messages().print(
            f"Gradients, predictions and results are kept in {escape(str(kept))} (about 120 MB for "
            "the bundled base), so that the audit can go on; delete it when you are done."
        )
    findings = audit(
        paths,
        base=base,
        bank=where,
        policy=policy,
        concepts=concepts or (),
        preset=preset,
        strengths=strength or (),
        resolution=resolution,
        gradients=gradients,
        together=together,
        engine=chosen,
        workers=workers,
        known=known,
        folder=kept,
        progress=Told(),
    )
    counts, found = _written(findings, report, where, about, json_output)
    if not json_output:
        results().print(
            f"Blood test: {counts['present']} taught, {counts['broken']} break the model, "
            f"{counts['undecided']} undecided, {counts['partly read']} partly read, "
            f"{counts['unreadable']} unreadable, {counts['absent']} clear."
        )
    raise typer.Exit(int(found))


def _written(
    findings: Iterable[Finding],
    report: Path | None,
    bank: Path,
    about: dict[str, Json],
    json_output: bool,
) -> tuple[dict[str, int], bool]:
    """Hand findings on as they come, file by file: to the report, and to standard output."""
    from tadasu.auditing.bank import Bank
    from tadasu.auditing.findings import ORDER
    from tadasu.examination.exports import Tables
    from tadasu.examination.report import Page

    page = Page(Bank.load(bank), about)
    tables = Tables(report, about) if report is not None else None
    stream = JsonList(about) if json_output else None
    anything = False
    for _, group in groupby(findings, key=lambda finding: finding.file):
        own = list(group)
        page.add(own)
        anything = anything or any(each.found for each in own)
        if tables is not None:
            tables.add(own)
        if stream is not None:
            stream.add(own)
        else:
            _print(own)
    if report is not None and tables is not None:
        tables.close()
        page.write(report / "report.html")
        messages().print(f"Report: {escape(str(report / 'report.html'))}")
    if stream is not None:
        stream.close()
    return {name: page.counts[name] for name in ORDER}, anything


class JsonList:
    """One JSON document on standard output, written as findings come."""

    def __init__(self, about: dict[str, Json]) -> None:
        import tadasu

        head = json.dumps({"tadasu": tadasu.__version__, **about})
        self.separator = ""
        sys.stdout.write(f'{head[:-1]}, "findings": [')

    def add(self, findings: list[Finding]) -> None:
        """Write some findings."""
        for finding in findings:
            text = json.dumps(finding.as_json(), allow_nan=False)
            sys.stdout.write(f"{self.separator}\n{text}")
            self.separator = ","
        sys.stdout.flush()

    def close(self) -> None:
        """End the document."""
        sys.stdout.write("\n]}\n")


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
        worst = _once(found)
        word = ", ".join(_about(each) for each in worst[:4])
        name = escape(_name(file))
        self.console.print(f"{done}/{total}  {pace}{name}: {escape(word) or 'clear'}")


def _once(found: list[Finding]) -> list[Finding]:
    """What a file has to say; that it was read in part is said once, and last."""
    told = [each for each in found if each.found]
    partly = [each for each in told if each.conclusion == "partly read"]
    return [each for each in told if each.conclusion != "partly read"] + partly[:1]


def _about(finding: Finding) -> str:
    whole = finding.conclusion == "partly read" or not finding.concept
    return finding.conclusion if whole else f"{finding.concept} {finding.conclusion}"


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
    """A table of what one file has to say; nothing for a clear one."""
    rows = table("file", "concept", "conclusion", "score", "share of pictures", "recommended")
    for finding in _once(found):
        limits = finding.interval
        whole = finding.conclusion == "partly read" or not finding.concept
        rows.add_row(
            escape(_name(finding.file)),
            escape(finding.reason) if whole else escape(finding.concept),
            finding.conclusion,
            "" if whole or finding.score is None else f"{finding.score:.1f}",
            "" if whole or limits is None else f"{limits.low:.2f} to {limits.high:.2f}",
            str(finding.response),
        )
    if rows.row_count:
        results().print(rows)
