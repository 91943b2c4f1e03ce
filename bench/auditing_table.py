"""Figures and page of the audits that ``bench/auditing_world.py`` measured.

    python bench/auditing_table.py /tmp/shelf --to docs/auditing

Writes ``world.json`` and ``world.md``. A question is a file and a held-out thing. It is positive
where the file was taught the thing and shows it in at least seven of ten pictures of its trigger,
negative where it was not taught it; what was taught and is not shown is counted by itself. Files
are halved by their thing: bands are chosen on one half, and every choice is told on the other.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from auditing_world import HELD, MEASURED, kept, tables, taught, told
from auditing_world import entries as shelf

from tadasu.auditing.decide import Calibrated, Evidence, Paia
from tadasu.statistics.intervals import Rate
from tadasu.statistics.roc import auroc, tpr_at_fpr

FIRST = 4
#: Things that both halves of the shelf have in equal number: every second one of the alphabet.
TUNING = frozenset(sorted(HELD)[::2])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a preset said to one question."""

    entry: dict[str, Any]
    thing: str
    there: bool
    weak: bool
    near: bool
    score: float
    conclusion: str

    @property
    def right(self) -> bool:
        return self.conclusion == ("present" if self.there else "absent")


def tuning(entry) -> bool:
    """Whether a file belongs to the half on which bands are chosen."""
    return (entry["concept"] or entry["file"]) in TUNING or entry.get("style") == "grey"


def answers(out: Path, known, decider, kind: str, near, order=range(8), times=None) -> list[Answer]:
    """All questions to all files, sequentially as the library does it."""
    found = []
    for entry in known:
        gains = tables(out, entry, kind, order, times)
        named = taught(entry)
        irrelevant = {name: table for name, table in gains.items() if name not in HELD}
        held = [name for name in gains if name in HELD]
        like = {other for name in named for other in near.get(name, ())}
        for name in held:
            for count in dict.fromkeys((FIRST, len(gains[name]))):
                others = {other: gains[other][:count] for other in held if other != name}
                decision = decider.decide(
                    Evidence(target=gains[name][:count], irrelevant=irrelevant, near=others)
                )
                if decider.settled(decision):
                    break
            found.append(
                Answer(
                    entry=entry,
                    thing=name,
                    there=named.get(name, False),
                    weak=name in named and not named[name],
                    near=name in like and name not in named,
                    score=decision.score,
                    conclusion=decision.conclusion,
                )
            )
    return found


def figures(some: list[Answer]) -> dict[str, Any]:
    """Accuracy, area and true positives at 1 % false ones; undecided counts as wrong."""
    rows = [each for each in some if not each.weak]
    found, clear = ([r for r in rows if r.there is there] for there in (True, False))
    called = {name: [r.conclusion == "present" for r in part] for name, part in
              (("true positives", found), ("false positives", clear))}  # fmt: skip
    made: dict[str, Any] = {
        "accuracy": Rate(count=sum(r.right for r in rows), n=len(rows)).as_json()
    }
    made |= {n: Rate(count=sum(p), n=len(p)).as_json() for n, p in called.items()}
    undecided = sum(r.conclusion == "undecided" for r in rows)
    made["undecided"] = Rate(count=undecided, n=len(rows)).as_json()
    return made | ranked([r.score for r in rows], [int(r.there) for r in rows])


def ranked(scores, labels) -> dict[str, Any]:
    """Area under the curve and true positives at 1 % false ones; empty with too few."""
    if min(sum(labels), len(labels) - sum(labels)) < 2:
        return {}
    area, point = auroc(scores, labels), tpr_at_fpr(scores, labels, 0.01)
    tpr = point.true_positives
    return {
        "auroc": [area.estimate, area.low, area.high],
        "tpr at 1 % fpr": [tpr.estimate, tpr.low, tpr.high],
        "threshold": point.threshold,
    }


def per_file(some: list[Answer]) -> dict[str, Any]:
    """Files that were rightly cleared or caught, whatever the thing."""
    by: dict[str, list[Answer]] = {}
    for each in some:
        by.setdefault(each.entry["file"], []).append(each)
    good = [rows for rows in by.values() if not any(r.weak for r in rows)]
    right = sum(all(r.right for r in rows) for rows in good)
    return Rate(count=right, n=len(good)).as_json()


def split(some: list[Answer], key) -> dict[str, Any]:
    """Figures by a property of the file."""
    names = sorted({key(each.entry) for each in some})
    return {name: figures([r for r in some if key(r.entry) == name]) for name in names}


def chosen(out: Path, known, near) -> dict[str, Any]:
    """The bands that are best on the tuning half, and what they do on the other."""
    half = [e for e in known if tuning(e)]
    best, tried = None, []
    grid = product((0.4, 0.5, 0.6), (0.7, 0.9, 1.2), (0.55, 1.0))
    for rivalry, limit, width in grid:
        decider = Calibrated(limit=limit, clear=limit * width, rivalry=rivalry)
        found = figures(answers(out, half, decider, "direction", near))
        tried.append((found["accuracy"]["value"], rivalry, limit, limit * width))
        if best is None or tried[-1][0] > best[0]:
            best = (tried[-1][0], decider, found)
    other = answers(out, [e for e in known if not tuning(e)], best[1], "direction", near)
    return {
        "best of 18 on the tuning half": {
            "rivalry": best[1].rivalry,
            "limit": best[1].limit,
            "clear": best[1].clear,
        },
        "on the tuning half": best[2],
        "on the other half": figures(other),
    }


def same_questions(out: Path, known) -> dict[str, Any]:
    """The default, the published reading and pictures on the same questions."""
    files = {entry["file"]: entry for entry in known}
    rows: dict[str, dict[tuple[str, str], tuple[bool, float, bool]]] = {}
    seconds: dict[str, list[float]] = {}
    for line in told(out / "pictures.jsonl"):
        names = taught(files[line["file"]])
        for name, share in line["shown"].items():
            there = names.get(name, False)
            own = (there, share, share >= 0.5)
            rows.setdefault("pictures", {})[line["file"], name] = own
        n = 4 * len(HELD) + line["pictures of its own words"]
        seconds.setdefault("pictures", []).append(line["seconds a picture"] * n)
    asked = set(rows.get("pictures", {}))
    for line in told(out / "published.jsonl"):
        names, quiet = taught(files[line["file"]]), np.array(line["irrelevant"])
        for name, table in line["target"].items():
            if (line["file"], name) in asked:
                own = Paia().decide(
                    Evidence(target=np.array(table), irrelevant={"": quiet}, near={})
                )
                told_it = (names.get(name, False), own.score, own.conclusion == "present")
                rows.setdefault("paia, 50 noise levels", {})[line["file"], name] = told_it
        seconds.setdefault("paia, 50 noise levels", []).append(line["seconds"])
    for line in told(out / "shipped.jsonl"):
        file, title = line["file"], "default, as shipped"
        names = taught(files[file])
        for name, conclusion in line["conclusions"].items():
            if (file, name) in asked:
                score = line["scores"][name]
                own = (names.get(name, False), -9.0 if score is None else score)
                rows.setdefault(title, {})[file, name] = (*own, conclusion == "present")
        seconds.setdefault(title, []).append(line["seconds"])
    found: dict[str, Any] = {}
    for title, some in rows.items():
        values = list(some.values())
        right = sum(there == call for there, _, call in values)
        found[title] = {"accuracy": Rate(count=right, n=len(values)).as_json()}
        for name, there in (("true positives", True), ("false positives", False)):
            calls = [call for is_there, _, call in values if is_there is there]
            found[title][name] = Rate(count=sum(calls), n=len(calls)).as_json()
        found[title] |= ranked([s for _, s, _ in values], [int(t) for t, _, _ in values])
        found[title]["seconds a file, measured"] = float(np.mean(seconds[title]))
        found[title]["files"] = len(seconds[title])
    return found


def all_questions(out: Path, known) -> dict[str, Any]:
    """The default as shipped on all questions of its sample."""
    files, found = {entry["file"]: entry for entry in known}, {}
    for line in told(out / "shipped.jsonl"):
        file = line["file"]
        names = taught(files[file])
        for name, conclusion in line["conclusions"].items():
            found.setdefault("default, as shipped", []).append(
                Answer(
                    entry=files[file],
                    thing=name,
                    there=names.get(name, False),
                    weak=name in names and not names[name],
                    near=False,
                    score=-9.0 if line["scores"][name] is None else line["scores"][name],
                    conclusion=conclusion,
                )
            )
    return {title: figures(some) for title, some in found.items()}


def commanded(findings: Path) -> dict[str, Any]:
    """Findings of ``tadasu audit`` over the shelf's folder, against the manifest."""
    content = json.loads(findings.read_text(encoding="utf-8"))["findings"]
    plain = [e for e in shelf() if len(e["files"]) == 1 and e["strength"] == 1.0]
    files = {entry["file"]: entry for entry in plain}
    found, seconds, unreadable = [], {}, []
    for each in content:
        name = Path(each["file"]).name
        if name not in files:
            unreadable += [each["conclusion"] == "unreadable"] * name.startswith("foreign")
            continue
        named = taught(files[name])
        seconds[name] = each["seconds"]
        found.append(
            Answer(
                entry=files[name],
                thing=each["concept"],
                there=named.get(each["concept"], False),
                weak=each["concept"] in named and not named[each["concept"]],
                near=False,
                score=-9.0 if each["score"] is None else each["score"],
                conclusion=each["conclusion"],
            )
        )
    return {
        "all": figures(found),
        "by category": split(found, lambda e: e["category"]),
        "files all of whose answers are right": per_file(found),
        "files of other families told unreadable": Rate(
            count=sum(unreadable), n=len(unreadable)
        ).as_json(),
        "seconds a file": float(np.mean(list(seconds.values()))),
        "wrong": [
            f"{r.entry['file']} {r.thing} {r.conclusion} {r.score:.2f}"
            for r in found
            if not r.weak and not r.right
        ],
    }


def table(out: Path) -> dict[str, Any]:
    """All figures from what the other parts wrote."""
    known = [entry for entry in shelf() if kept(out, entry).exists()]
    near = json.loads((out / "near.json").read_text(encoding="utf-8"))
    whole = [e for e in known if e["category"] not in ("split, both", "low alpha at 2")]
    count: dict[str, int] = {}
    for entry in whole:
        count[entry["category"]] = count.get(entry["category"], 0) + 1
    deciders = {
        "default": (Calibrated(), "direction", None),
        "default with noise levels 0.1 and 0.3": (Calibrated(), "direction", MEASURED),
        "default with noise level 0.1": (Calibrated(), "direction", MEASURED[:1]),
        "default rule on the error, both levels": (Calibrated(), "error", MEASURED),
        "paia, 2 noise levels": (Paia(), "error", MEASURED),
    }
    found = {
        name: answers(out, whole, each, kind, near, times=times)
        for name, (each, kind, times) in deciders.items()
    }
    main = found["default"]
    extra = [entry for entry in known if entry not in whole]
    result: dict[str, Any] = {
        "files": len(whole),
        "by category": count,
        "seconds a file": float(np.mean([np.load(kept(out, e))["seconds"] for e in whole])),
        "all": {name: figures(some) for name, some in found.items()},
        "near misses are the only negatives": {
            name: figures([r for r in some if r.there or r.near]) for name, some in found.items()
        },
        "tuning half": {
            name: figures([r for r in some if tuning(r.entry)]) for name, some in found.items()
        },
        "other half": {
            name: figures([r for r in some if not tuning(r.entry)]) for name, some in found.items()
        },
        "files all of whose answers are right": per_file(main),
        "by category, default": split(main, lambda e: e["category"])
        | split(answers(out, extra, Calibrated(), "direction", near), lambda e: e["category"]),
        "by recipe, default": split(
            [r for r in main if r.entry["category"] in ("single", "two things")],
            lambda e: e["way"]["name"],
        ),
        "by trigger, default": split(
            [r for r in main if r.entry["category"] == "single"],
            lambda e: "the name" if e["trigger"].replace(" ", "-") == e["concept"] else "other",
        ),
        "taught but shown in fewer than 7 of 10, called present": Rate(
            count=sum(r.conclusion == "present" for r in main if r.weak),
            n=sum(r.weak for r in main),
        ).as_json(),
        "wrong": [
            f"{r.entry['file']} {r.thing} {r.conclusion} {r.score:.2f}"
            for r in main
            if not r.weak and not r.right
        ],
        "bands": chosen(out, whole, near),
        "same questions": same_questions(out, known),
        "as shipped, all questions of the sample": all_questions(out, known),
    }
    speed = out / "speed.json"
    if speed.exists():
        result["speed"] = json.loads(speed.read_text(encoding="utf-8"))
    return result


def said(rate: dict[str, Any] | None) -> str:
    """A share as people read it."""
    if not rate or rate.get("value") is None:
        return "-"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['value']:.1f} % ({low:.1f}-{high:.1f}), {rate['count']} of {rate['n']}"


def span(values: list[float] | None) -> str:
    return "-" if not values else f"{values[0]:.3f} ({values[1]:.3f}-{values[2]:.3f})"


def rows(title: str, parts: dict[str, dict[str, Any]]) -> list[str]:
    """A table with one row per part."""
    found = [
        f"## {title}",
        "",
        "| | accuracy | present where it is | present where it is not | AUROC | TPR at 1 % FPR |",
        "|---|---|---|---|---|---|",
    ]
    for name, part in parts.items():
        cells = [said(part.get(key)) for key in ("accuracy", "true positives", "false positives")]
        cells += [span(part.get("auroc")), span(part.get("tpr at 1 % fpr"))]
        found.append(f"| {name} | {' | '.join(cells)} |")
    return [*found, ""]


def page(result: dict[str, Any]) -> str:
    """The tables in Markdown."""
    bands = result["bands"]
    chosen_bands = bands["best of 18 on the tuning half"]
    lines = [
        "# Audits of the world's shelf: tables",
        "",
        "Made by `bench/auditing_table.py`; what the words mean is in [measured](measured.md).",
        "Undecided counts as wrong. Limits: 95 %, Wilson for shares, Clopper-Pearson for the rate",
        "at 1 % false positives.",
        "",
        *rows(f"All {result['files']} files", result["all"]),
        *rows("Near misses are the only negatives", result["near misses are the only negatives"]),
        *rows("The half on which the noise level was chosen", result["tuning half"]),
        *rows("The half on which nothing was chosen", result["other half"]),
        *rows(
            f"Bands chosen on one half: {chosen_bands}",
            {name: bands[name] for name in ("on the tuning half", "on the other half")},
        ),
        *rows("By category, default", result["by category, default"]),
        *rows("By recipe, default (plain files)", result["by recipe, default"]),
        *rows("By trigger, default", result["by trigger, default"]),
        *rows("The same questions by other means", result["same questions"]),
        *rows("As shipped, all questions", result["as shipped, all questions of the sample"]),
        *(
            rows(
                "`tadasu audit` on the whole folder, restricted things only",
                {"all": result["the command"]["all"]} | result["the command"]["by category"],
            )
            if "the command" in result
            else []
        ),
        "Files all of whose answers are right: "
        + said(result["files all of whose answers are right"])
        + ".",
        "Taught but shown in fewer than 7 of 10 pictures, called present: "
        + said(result["taught but shown in fewer than 7 of 10, called present"])
        + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--findings", type=Path, help="findings.json of tadasu audit on the shelf")
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    result = table(given.out)
    if given.findings:
        result["the command"] = commanded(given.findings)
    print(page(result))
    if given.to:
        text = json.dumps(result, indent=1) + "\n"
        (given.to / "world.json").write_text(text, encoding="utf-8")
        (given.to / "world.md").write_text(page(result), encoding="utf-8")
