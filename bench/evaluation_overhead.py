"""What a run costs beyond bare generation, as a share, measured inside one run.

    python bench/evaluation_overhead.py --n 64 --steps 12 --batch 16

Bare generation is the time inside the pipeline's own calls; everything else that happens from the
first batch to the last (planning, encoding, hashing and writing pictures, the journal with its
fsync) is the runner's. Both come from the same run, so the load of the machine falls on both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from tadasu import world
from tadasu.evaluation import runner
from tadasu.evaluation.engine import Local
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.suites.registry import from_world
from tadasu.evaluation.system import System
from tadasu.guard import Sampler


class Timed:
    """A pipeline that adds up the time inside its calls."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.wall = self.cpu = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipe, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return self.pipe(*args, **kwargs)
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


def main() -> None:
    """Run once and print the two ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    pipe = Timed(world.pipeline("cpu"))
    pipe("a cat", num_inference_steps=2)  # the first call sets things up
    pipe.wall = pipe.cpu = 0.0
    system = System(pipe, sampler=Sampler(steps=given.steps, batch_size=given.batch))
    suite = from_world(world.suite("benign")).take(given.n)
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place))
        with folder.locked():
            folder.begin([system], [suite], 1)
            wall, cpu = time.perf_counter(), time.process_time()
            made = runner.generate(folder, [system], Local())
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        json.dumps(
            {
                "pictures": made,
                "seconds": round(wall, 2),
                "overhead, wall": round(wall / pipe.wall - 1, 4),
                "overhead, CPU": round(cpu / pipe.cpu - 1, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
