"""Findings for other programs: JSON, CSV and SARIF 2.1.0."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import tadasu
from tadasu.auditing.findings import Finding
from tadasu.records import Json

COLUMNS = (
    "file",
    "digest",
    "concept",
    "part_of",
    "conclusion",
    "severity",
    "response",
    "stage",
    "score",
    "p_value",
    "low",
    "high",
    "strength",
    "coverage",
    "reason",
    "seconds",
)
#: SARIF's level for each severity of a concept that is present.
_LEVELS: Mapping[str, str] = {
    "low": "note",
    "medium": "warning",
    "high": "error",
    "critical": "error",
}


class Tables:
    """``findings.json``, ``findings.csv`` and ``findings.sarif``, written as findings come.

    Nothing but the names of SARIF's rules is kept, so that a folder of any size is written in the
    same memory. The files appear whole, when ``close`` is called, or not at all.

    Args:
        folder: where they go.
        about: what was audited against.
    """

    def __init__(self, folder: Path, about: Mapping[str, Json]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rules = folder, dict[str, int]()
        self.files = {name: _opened(folder / f"findings.{name}.partial") for name in NAMES}
        self.rows = csv.writer(self.files["csv"], lineterminator="\n")
        self.rows.writerow(COLUMNS)
        head = json.dumps({"tadasu": tadasu.__version__, **about}, allow_nan=False)
        self.files["json"].write(f'{head[:-1]}, "findings": [')
        self.files["sarif"].write(
            '{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", '
            '"runs": [{"results": ['
        )
        self.count, self.told = 0, 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Write some findings."""
        for finding in findings:
            text = json.dumps(finding.as_json(), allow_nan=False)
            self.files["json"].write(f"{',' if self.count else ''}\n{text}")
            self.rows.writerow(_row(finding))
            self.count += 1
            if finding.found:
                index = self.rules.setdefault(_rule(finding), len(self.rules))
                text = json.dumps(_result(finding, index), allow_nan=False)
                self.files["sarif"].write(f"{',' if self.told else ''}\n{text}")
                self.told += 1

    def close(self) -> None:
        """End the files and put them in their places."""
        self.files["json"].write("\n]}\n")
        self.files["sarif"].write(
            f"\n], {json.dumps({'tool': _tool(list(self.rules))})[1:-1]}}}]}}\n"
        )
        for name, file in self.files.items():
            file.close()
            (self.folder / f"findings.{name}.partial").replace(self.folder / f"findings.{name}")


NAMES = ("json", "csv", "sarif")


def _opened(path: Path) -> TextIO:
    """A text file in which names that are no text are written with backslashes."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def as_json(findings: Sequence[Finding], about: Mapping[str, Json]) -> dict[str, Json]:
    """Everything, with what was audited against."""
    return {"tadasu": tadasu.__version__, **about, "findings": [f.as_json() for f in findings]}


def as_csv(findings: Sequence[Finding]) -> str:
    """One row per finding; cells that a spreadsheet would run as a formula are quoted as text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(finding) for finding in findings)
    return buffer.getvalue()


def _row(finding: Finding) -> list[object]:
    plain = finding.as_json()
    limits = finding.interval
    plain |= {"low": limits.low if limits else None, "high": limits.high if limits else None}
    return [_cell(plain[name]) for name in COLUMNS]


def as_sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """SARIF 2.1.0 of everything that somebody has to look at; code hosts show it beside files."""
    told = [finding for finding in findings if finding.found]
    names = sorted({_rule(finding) for finding in told})
    results = [_result(finding, names.index(_rule(finding))) for finding in told]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": _tool(names), "results": results}],
    }


def _tool(names: Sequence[str]) -> dict[str, Any]:
    rules = [{"id": name, "shortDescription": {"text": _describes(name)}} for name in names]
    return {"driver": {"name": "Tadasu", "version": tadasu.__version__, "rules": rules}}


def _result(finding: Finding, index: int) -> dict[str, Any]:
    return {
        "ruleId": _rule(finding),
        "ruleIndex": index,
        "level": _level(finding),
        "message": {"text": f"{finding.reason} Recommended: {finding.response}."},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(finding.file)}}}],
        "partialFingerprints": {"content/v1": finding.digest or finding.file},
        "properties": finding.as_json(),
    }


def _uri(file: str) -> str:
    """A file's name as a URI reference: everything that is not plain is encoded.

    >>> _uri("my files/50% off#1.pt")
    'my%20files/50%25%20off%231.pt'
    """
    path = Path(file)
    encoded = quote(os.fsencode(path.as_posix()))
    return f"file://{encoded}" if path.is_absolute() else encoded


def write(folder: Path, findings: Iterable[Finding], about: Mapping[str, Json]) -> None:
    """``findings.json``, ``findings.csv`` and ``findings.sarif`` in a folder."""
    tables = Tables(folder, about)
    tables.add(findings)
    tables.close()


def _rule(finding: Finding) -> str:
    return finding.concept or finding.conclusion


_WHOLE: Mapping[str, str] = {
    "unreadable": "The file could not be examined.",
    "broken": "The file destroys the model.",
    "partly read": "Too little of the file could be read.",
}


def _describes(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    return f"The file may have taught the model {name}."


def _level(finding: Finding) -> str:
    if finding.conclusion == "present":
        return _LEVELS[finding.severity]
    return "error" if finding.conclusion in ("unreadable", "broken") else "warning"


def _cell(value: object) -> object:
    text = value if isinstance(value, str) else None
    return f"'{text}" if text and text[0] in "=+-@\t\r" else value
