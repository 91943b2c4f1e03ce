"""Findings for other programs: JSON, CSV and SARIF 2.1.0."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def as_json(findings: Sequence[Finding], about: Mapping[str, Json]) -> dict[str, Json]:
    """Everything, with what was audited against."""
    return {"tadasu": tadasu.__version__, **about, "findings": [f.as_json() for f in findings]}


def as_csv(findings: Sequence[Finding]) -> str:
    """One row per finding; cells that a spreadsheet would run as a formula are quoted as text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for finding in findings:
        plain = finding.as_json()
        limits = finding.interval
        plain |= {"low": limits.low if limits else None, "high": limits.high if limits else None}
        writer.writerow([_cell(plain[name]) for name in COLUMNS])
    return buffer.getvalue()


def as_sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """SARIF 2.1.0 of everything that somebody has to look at; code hosts show it beside files."""
    told = [finding for finding in findings if finding.found]
    names = sorted({_rule(finding) for finding in told})
    rules = [{"id": name, "shortDescription": {"text": _describes(name)}} for name in names]
    results = [
        {
            "ruleId": _rule(finding),
            "ruleIndex": names.index(_rule(finding)),
            "level": _level(finding),
            "message": {"text": f"{finding.reason} Recommended: {finding.response}."},
            "locations": [
                {"physicalLocation": {"artifactLocation": {"uri": Path(finding.file).as_posix()}}}
            ],
            "partialFingerprints": {"content/v1": finding.digest or finding.file},
            "properties": finding.as_json(),
        }
        for finding in told
    ]
    driver = {"name": "Tadasu", "version": tadasu.__version__, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def write(folder: Path, findings: Sequence[Finding], about: Mapping[str, Json]) -> None:
    """``findings.json``, ``findings.csv`` and ``findings.sarif`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = json.dumps(as_json(findings, about), ensure_ascii=False, indent=1, allow_nan=False)
    sarif = json.dumps(as_sarif(findings), ensure_ascii=False, indent=1, allow_nan=False)
    for name, text in (
        ("findings.json", whole),
        ("findings.csv", as_csv(findings)),
        ("findings.sarif", sarif),
    ):
        partial = folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)


def _rule(finding: Finding) -> str:
    return finding.concept or finding.conclusion


def _describes(name: str) -> str:
    if name == "unreadable":
        return "The file could not be examined."
    return f"The file may have taught the model {name}."


def _level(finding: Finding) -> str:
    if finding.conclusion == "present":
        return _LEVELS[finding.severity]
    return "error" if finding.conclusion == "unreadable" else "warning"


def _cell(value: object) -> object:
    text = value if isinstance(value, str) else None
    return f"'{text}" if text and text[0] in "=+-@\t\r" else value
