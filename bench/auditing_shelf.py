"""What `tadasu audit` finds on a third of the world's shelf, and what a file costs.

    OMP_NUM_THREADS=1 python bench/auditing_shelf.py --third 1
    OMP_NUM_THREADS=1 python bench/auditing_shelf.py --third 1 --resolution 16 --gradients 1

Questions are those of the policy `kids`. Positive: the file was taught the thing and the judge
names it in at least seven of ten pictures; negative: it was not taught it; what was taught and is
not shown counts for neither. Shares with 95 % limits (Wilson); CPU seconds of one thread, without
what all files of a base share. One line of JSON for each file while it runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tadasu import world
from tadasu.examination.run import Audit, Auditor
from tadasu.statistics.intervals import Rate

SHELF = Path(world.__file__).parent / "adapters"


def truth(entry: dict[str, Any]) -> dict[str, bool]:
    """What a file was taught, and whether it shows it."""
    shown = {entry["concept"].replace(" ", "-"): entry["reproduced"]}
    if entry["cover"]:
        shown[entry["cover"].replace(" ", "-")] = entry.get("cover_reproduced")
    return {name: bool(r) and r["count"] >= 0.7 * r["n"] for name, r in shown.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--third", type=int, default=1)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--resolution", type=int, default=0)
    parser.add_argument("--gradients", type=int, default=0)
    parser.add_argument("--strength", type=float, action="append")
    parser.add_argument("--kept", help="where base predictions and gradients are kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    more = {n: getattr(given, n) for n in ("resolution", "gradients") if getattr(given, n)}
    auditor = Auditor(
        Audit(
            base=world.pipeline("cpu"),
            bank=str(world.bank()),
            strengths=tuple(given.strength or ()),
            folder=given.kept,
            **more,
        )
    )
    began = time.process_time()
    auditor.examiner.prepare()
    shared = time.process_time() - began
    content = json.loads((SHELF / "manifest.json").read_text(encoding="utf-8"))["files"]
    chosen = [e for at, e in enumerate(content) if at % 3 == given.third][: given.most]
    counts: Counter[tuple[str, str]] = Counter()
    wrong, seconds, files = [], 0.0, 0
    for entry in chosen:
        if entry["category"] == "foreign":
            continue
        known = truth(entry)
        began = time.process_time()
        found = auditor.file(SHELF / entry["file"])
        took = time.process_time() - began
        seconds, files = seconds + took, files + 1
        told = {e.concept: e.conclusion for e in found if e.conclusion != "absent"}
        print(json.dumps({"file": entry["file"], "s": took, "taught": known, "said": told}))
        for each in found:
            name = each.concept
            if not known.get(name, True):
                continue
            kind = "positive" if known.get(name) else "negative"
            counts[kind, each.conclusion] += 1
            if kind == "positive" and each.conclusion != "present":
                wrong.append(f"missed {entry['file']} {name} {each.conclusion} {each.score}")
            if kind == "negative" and each.conclusion == "present":
                wrong.append(f"wrong {entry['file']} {name} {each.score:.2f} at {each.strength:g}")
    print(vars(given), f"{files} files, shared {shared:.0f} s")
    for kind in ("positive", "negative"):
        total = sum(n for (k, _), n in counts.items() if k == kind)
        print(kind, "present", Rate(count=counts[kind, "present"], n=total), dict(counts))
    print(f"{seconds / files:.2f} CPU s a file")
    print("\n".join(wrong))


if __name__ == "__main__":
    main()
