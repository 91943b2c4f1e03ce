"""A real pipeline on a Ray cluster: the tables of one process, and a death costs one batch."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tadasu import world
from tadasu.evaluation.evaluate import run
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.results import Run
from tadasu.evaluation.scripted import Redness
from tadasu.evaluation.suites.suite import Prompt, Suite
from tadasu.evaluation.system import System
from tadasu.evaluation.target import Answer, Request
from tadasu.guard import Sampler

JUDGE = Judge(name="red", detector=Redness(), thresholds={"red": 0.5})
TEXTS = ("a cat", "a red apple", "a tree", "a sword", "a dog", "a blue car", "a rose", "a house")
SUITE = Suite(id="s", prompts=tuple(Prompt(id=t, text=t, seed=i) for i, t in enumerate(TEXTS)))


def tables(done: Run) -> list[dict[str, Any]]:
    """Every number but those of the clock and of the memory."""
    return [cell for cell in done.table() if cell["metric"] not in ("seconds", "memory")]


def pictures(done: Run) -> dict[tuple[str, str], str]:
    return {(row.system, row.prompt): row.picture for row in done.rows()}


@pytest.mark.ray
def test_a_diffusers_pipeline_on_two_workers_of_which_one_dies(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from tadasu.evaluation.engine_ray import OnRay

    log, killed = tmp_path / "log", tmp_path / "killed"

    class Mortal(System):
        """Writes down what it is asked, and takes its worker with it once, half way through."""

        def generate(self, requests: Sequence[Request]) -> list[Answer]:
            with log.open("a", encoding="utf-8") as file:
                file.write("".join(f"{self.name}|{each.text}\n" for each in requests))
            if any(each.text == "a dog" for each in requests) and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().generate(requests)

    pipe, sampler = world.pipeline("cpu"), Sampler(steps=2, batch_size=2)
    pipe.set_progress_bar_config(disable=True)

    def systems(kind: type[System]) -> list[System]:
        return [
            kind(pipe, name="plain", sampler=sampler),
            kind(pipe, name="steered", guidance="sld", concepts=("a sword",), sampler=sampler),
        ]

    before = torch.get_num_threads()
    torch.set_num_threads(2)  # Ray would give its workers one, and their pictures other bits
    local = run(systems=systems(System), suites=[SUITE], judges=[JUDGE], folder=tmp_path / "a")
    made = OnRay(workers=2)
    try:
        far = run(
            systems=systems(Mortal),
            suites=[SUITE],
            judges=[JUDGE],
            folder=tmp_path / "b",
            engine=made,
        )
    finally:
        ray.shutdown()
        torch.set_num_threads(before)
    assert killed.exists()
    assert made.replaced == 1
    assert [s["id"] for s in far.content["systems"]] == [s["id"] for s in local.content["systems"]]
    assert pictures(far) == pictures(local)
    assert tables(far) == tables(local)
    asked = Counter(log.read_text(encoding="utf-8").splitlines())
    assert sum(asked.values()) == 2 * len(TEXTS) + 2  # the batch that died, and nothing else
    assert asked.most_common(2)[0][1] == 2
