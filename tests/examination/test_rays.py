"""Audits on a local Ray cluster of two workers, one of which is killed half way."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tadasu.errors import BadInput
from tadasu.examination import rays
from tadasu.examination.run import Audit, audit

Save = Callable[..., Path]


@pytest.fixture
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cluster's own, about its defaults
        ray.init(num_cpus=2, include_dashboard=False, logging_level=40, log_to_driver=False)
        yield ray
        ray.shutdown()


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_loses_no_file(
    cluster: Any, pipe: Any, bank: Path, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster
    pipe.save_pretrained(tmp_path / "model")
    shared = tmp_path / "shared"
    shared.mkdir()
    for at in range(6):
        save(shared / f"{at}.safetensors", scale=0.0 if at % 2 else 1.0 + at)
    (shared / "broken.safetensors").write_bytes(b"\x00" * 20)
    question: dict[str, Any] = {
        "base": str(tmp_path / "model"),
        "bank": bank,
        "folder": tmp_path / "kept",
    }
    alone = {(f.file, f.concept): f.conclusion for f in audit(shared, **question)}
    killed: list[int] = []

    def progress(file: str, found: Any, done: int, total: int) -> None:
        del file, found
        assert total == 7
        if done == 2:
            killed.append(_kill_one())

    question["folder"] = tmp_path / "other"
    spread = {
        (f.file, f.concept): f.conclusion
        for f in audit(shared, engine="ray", workers=2, progress=progress, **question)
    }
    assert killed
    assert spread == alone


def _kill_one() -> int:
    """End one of the two actors' processes, as a lost machine would."""
    psutil = pytest.importorskip("psutil")
    below = psutil.Process().children(recursive=True)
    actors = [each.pid for each in below if "".join(each.cmdline()).startswith("ray::Worker")]
    assert len(actors) == 2
    os.kill(actors[0], signal.SIGKILL)
    return int(actors[0])


def test_a_pipeline_of_this_process_cannot_be_sent(pipe: Any, bank: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(BadInput, match="folder or hub id"):
        list(rays.run(Audit(base=pipe, bank=str(bank)), [Path("a")]))
