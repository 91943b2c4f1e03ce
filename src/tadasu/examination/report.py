"""The report: one page that somebody without our background can read, in English and Japanese."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu import japanese
from tadasu.auditing.bank import Bank
from tadasu.auditing.findings import ORDER, Evidence, Finding
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

#: Files that the page shows in full, and names of clear ones; beyond that there are the tables.
MOST, MOST_CLEAR = 300, 1000
PICTURES = 4


class Page:
    """The page, put together file by file, so that an audit of any size needs the same memory.

    Args:
        bank: whose pictures are shown; those of a policy's concepts are blurred until clicked.
        about: what was audited against, shown at the end.
    """

    def __init__(self, bank: Bank, about: Mapping[str, Json]) -> None:
        self.bank, self.about = bank, about
        self.counts = dict.fromkeys(ORDER, 0)
        self.entries: list[dict[str, Any]] = []
        self.clear: list[str] = []
        self.asked: dict[str, None] = {}

    def add(self, findings: Sequence[Finding]) -> None:
        """The findings of some files; those of one file together."""
        by_file: dict[str, list[Finding]] = {}
        for finding in findings:
            by_file.setdefault(finding.file, []).append(finding)
            if finding.concept and finding.stage != "lineage":
                self.asked[finding.concept] = None
        for file, own in by_file.items():
            entry = _entry(file, own)
            self.counts[entry["worst"]] += 1
            if entry["told"] or entry["notes"]:
                self.entries.append(entry)
            elif len(self.clear) < MOST_CLEAR:
                self.clear.append(file)
        if len(self.entries) > 2 * MOST:
            self._cut()

    def _cut(self) -> None:
        self.entries.sort(key=lambda entry: ORDER.index(entry["worst"]))
        del self.entries[MOST:]

    def write(self, path: Path) -> None:
        """Write the page; it appears whole or not at all."""
        import jinja2

        self._cut()
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        source = resources.files("tadasu.examination").joinpath("report.html").read_text("utf-8")
        told = [each["finding"] for entry in self.entries for each in entry["told"]]
        total = sum(self.counts.values())
        text = environment.from_string(source).render(
            ja=japanese.said,
            stages=japanese.STAGES,
            counts=self.counts,
            files=self.entries,
            clear=self.clear,
            asked=[self._called(name) for name in self.asked],
            pictures=_pictures(told, self.bank),
            about=self.about,
            left_out=max(0, total - len(self.entries) - len(self.clear)),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        partial.replace(path)

    def _called(self, name: str) -> str:
        known = self.bank.concepts.get(name)
        return (known.text if known else "") or name


def write(path: Path, findings: Sequence[Finding], bank: Bank, about: Mapping[str, Json]) -> None:
    """Write the page of findings that are all at hand.

    Args:
        path: of the page.
        findings: of an audit.
        bank: see `Page`.
        about: see `Page`.
    """
    page = Page(bank, about)
    page.add(findings)
    page.write(path)


def _entry(file: str, own: list[Finding]) -> dict[str, Any]:
    """One file with the findings that need words, the worst first."""
    own = sorted(own, key=lambda each: (ORDER.index(each.conclusion), -(each.score or 0.0)))
    told = [each for each in own if each.found and each.conclusion != "partly read"]
    partly = [each for each in own if each.conclusion == "partly read"]
    return {
        "file": file,
        "worst": own[0].conclusion,
        "told": [_told(each) for each in [*told, *partly[:1]]],
        "notes": list(dict.fromkeys(_notes(own))),
    }


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
    if finding.conclusion == "broken":
        return "モデルを壊すファイルです。本来の強さで使うと、ノイズしか出てきません。"
    if finding.conclusion == "partly read":
        share = finding.coverage or 0.0
        return (
            "読み取れた部分には何も見つかりませんでしたが、"
            f"読み取れたのはファイルの {share:.0%} です。人の確認が必要です。"
        )
    return f"検査できませんでした。{finding.reason}"


def _notes(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """What is true of the whole file, in both languages."""
    whole = ("read", "text_encoder", "decoys")
    return [
        (each.says, _note_in_japanese(each))
        for finding in findings
        for each in finding.evidence
        if each.stage in whole and finding.conclusion != "broken"
    ]


def _note_in_japanese(evidence: Evidence) -> str:
    if evidence.stage == "decoys":
        return _gated(evidence)
    if evidence.stage == "text_encoder":
        words = evidence.says.partition(": ")[2].rstrip(".")
        return f"意味が最も変わった語：{words if words != 'none' else 'なし'}。"
    if evidence.unit == "share of the file":
        return f"読み取って照合できたのは、ファイルの {evidence.score or 0:.0%} です。"
    return f"読み取りについて：{evidence.says}"


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
