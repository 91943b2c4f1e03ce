"""An audit that is killed outright goes on where it was, and finds the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Save = Callable[..., Path]
RUN = "from tadasu.cli.app import main; main()"


@pytest.mark.slow
def test_a_killed_audit_goes_on(pipe: Any, bank: Path, save: Save, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "base")
    shared = tmp_path / "shared"
    shared.mkdir()
    for at in range(8):
        save(shared / f"{at}.safetensors", scale=1.0 + at)

    def command(report: Path) -> list[str]:
        base = ["--base", str(tmp_path / "base"), "--bank", str(bank)]
        start = [sys.executable, "-c", RUN, "audit", str(shared)]
        return [*start, *base, "--report", str(report)]

    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with subprocess.Popen(command(stopped), stderr=subprocess.DEVNULL) as run:
        kept = stopped / "kept" / "results"
        for _ in range(1200):
            done = list(kept.rglob("*.json")) if kept.exists() else []
            if done or run.poll() is not None:
                break
            time.sleep(0.1)
        run.send_signal(signal.SIGKILL)
    before = {file: file.stat().st_mtime_ns for file in kept.rglob("*.json")}
    assert before, "nothing was kept before the kill"
    for report in (stopped, whole):
        subprocess.run(command(report), stderr=subprocess.DEVNULL, check=False)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    told = [
        json.loads((report / "findings.json").read_text(encoding="utf-8"))["findings"]
        for report in (stopped, whole)
    ]
    assert len(told[0]) == len(told[1]) == 16
    for one, two in zip(*told, strict=True):
        for key in ("file", "digest", "concept", "conclusion", "stage", "response", "reason"):
            assert one[key] == two[key], key
        assert one["score"] == pytest.approx(two["score"], rel=1e-3)
        for first, second in zip(one["evidence"], two["evidence"], strict=True):
            assert first["stage"] == second["stage"]
            assert first["score"] == pytest.approx(second["score"], rel=1e-3)
