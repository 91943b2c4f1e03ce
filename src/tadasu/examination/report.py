"""The report: one page that somebody without our background can read, in English and Japanese."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.auditing.bank import Bank
from tadasu.auditing.findings import Evidence, Finding, blood_test
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

#: Rows of the page in full; beyond that the tables of `exports` serve better.
MOST = 300
PICTURES = 4
ORDER = ("present", "unreadable", "undecided", "absent")


def write(path: Path, findings: Sequence[Finding], bank: Bank, about: Mapping[str, Json]) -> None:
    """Write the page; it appears whole or not at all.

    Args:
        path: of the page.
        findings: of an audit.
        bank: whose pictures are shown; those of a policy's concepts are blurred until clicked.
        about: what was audited against, shown at the end.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("tadasu.examination").joinpath("report.html").read_text("utf-8")
    text = environment.from_string(source).render(
        counts=blood_test(findings),
        files=_files(findings),
        pictures=_pictures(findings, bank),
        about=about,
        left_out=max(0, len({finding.file for finding in findings}) - MOST),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _files(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """One entry per file, the worst first; each with the findings that need words."""
    by_file: dict[str, list[Finding]] = {}
    for finding in findings:
        by_file.setdefault(finding.file, []).append(finding)
    entries = []
    for file, own in by_file.items():
        own.sort(key=lambda each: (ORDER.index(each.conclusion), -(each.score or 0.0)))
        entries.append(
            {
                "file": file,
                "worst": own[0].conclusion,
                "told": [_told(each) for each in own if each.found],
                "absent": [each.concept for each in own if not each.found],
                "notes": list(dict.fromkeys(_notes(own))),
            }
        )
    entries.sort(key=lambda entry: ORDER.index(entry["worst"]))
    return entries[:MOST]


def _told(finding: Finding) -> dict[str, Any]:
    strongest = max((abs(share) for share in finding.layers.values()), default=0.0) or 1.0
    layers = [
        {
            "name": _short(name),
            "share": share,
            "level": min(1.0, abs(share) / strongest),
            "teaches": share > 0,
        }
        for name, share in _grouped(finding.layers).items()
    ]
    return {"finding": finding, "layers": layers, "reason": (finding.reason, _japanese(finding))}


def _japanese(finding: Finding) -> str:
    """The reason for Japanese readers; what a reader of files said stays as it is."""
    if finding.stage == "lineage":
        return f"既知のファイルの複製・派生・合成です。{finding.reason}"
    if finding.conclusion == "present":
        return "元のモデルより、この概念の画像を明らかによく予測します。"
    if finding.conclusion == "undecided":
        return "画像によって結果が分かれます。人の確認が必要です。"
    return f"検査できませんでした。{finding.reason}"


def _notes(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """What is true of the whole file, in both languages."""
    whole = ("read", "text_encoder", "decoys")
    return [
        (each.says, _gated(each) if each.stage == "decoys" else each.says)
        for finding in findings
        for each in finding.evidence
        if each.stage in whole
    ]


def _gated(evidence: Evidence) -> str:
    return (
        f"意味のない言葉を与えると、言葉なしのときの {evidence.score or 0:.0f} 倍も予測を変えます。"
        "合言葉を待つファイルのような動きです。画像はその言葉とともに調べました。"
    )


def _grouped(layers: Mapping[str, float]) -> dict[str, float]:
    """Layers summed over the projections of one attention, so that the map stays readable."""
    found: dict[str, float] = {}
    for name, share in layers.items():
        parts = name.removesuffix(".weight").split(".")
        cut = next((at for at, part in enumerate(parts) if part in ("attn1", "attn2", "ff")), None)
        key = ".".join(parts[: cut + 1] if cut is not None else parts)
        found[key] = found.get(key, 0.0) + share
    return found


def _short(name: str) -> str:
    words = {
        "attn1": "self",
        "attn2": "text",
        "ff": "feed",
        "down_blocks": "down",
        "up_blocks": "up",
        "mid_block": "mid",
    }
    skipped = ("unet", "transformer", "attentions", "transformer_blocks", "resnets")
    return " ".join(words.get(part, part) for part in name.split(".") if part not in skipped)


def _pictures(findings: Sequence[Finding], bank: Bank) -> dict[str, dict[str, Any]]:
    """A few reference pictures of every concept that the page speaks about."""
    names = {finding.concept for finding in findings if finding.found and finding.concept}
    return {
        name: {
            "veiled": bool(bank.concepts[name].part_of),
            "sources": [_data(image) for image in bank.images(name, most=PICTURES)],
        }
        for name in sorted(names)
        if name in bank.concepts
    }


def _data(image: Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((128, 128))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
