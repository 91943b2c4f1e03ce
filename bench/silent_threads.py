"""Threads on one pipeline: is every picture the one that its caller would get alone?

    python bench/silent_threads.py --requests 24

Two threads send requests to the bundled model, each with a concept, an edit, a guard or a pipeline
of its own, on parts that they share. Every picture is compared with the one that the same request
gives alone; a request may also be refused. The last row draws through ``td.evaluation.run`` under
model offloading, and compares every picture of every row with a run without offloading.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch

import tadasu as td
from tadasu.errors import TadasuError

PROMPT = "a cat next to a pistol"
CONCEPTS = ("a pistol", "a cat")


def fresh() -> Any:
    """The bundled model."""
    pipe = td.world.pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, seed: int, steps: int = 4) -> torch.Tensor:
    """Latents of one prompt."""
    made: torch.Tensor = pipe(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=5.0,
        output_type="latent",
        return_dict=False,
        generator=torch.Generator().manual_seed(seed),
    )[0]
    return made


def attached(pipe: Any, number: int, seed: int) -> torch.Tensor:
    """With a rule of the thread's own."""
    with td.attach(pipe, "sld:max", [CONCEPTS[number]]):
        return draw(pipe, seed, steps=4 + number)


def mixed(pipe: Any, number: int, seed: int) -> torch.Tensor:
    """One thread with a rule, the other with none."""
    return attached(pipe, 0, seed) if number == 0 else draw(pipe, seed)


def applied(pipe: Any, number: int, seed: int) -> torch.Tensor:
    """With an edit of the thread's own."""
    with EDITS[number].applied(pipe):
        return draw(pipe, seed)


def guarded(pipe: Any, number: int, seed: int) -> torch.Tensor:
    """Through a guard of the thread's own."""
    guard = td.Guard(
        pipe, td.Policy.load("kids"), guidance=("sld:max", "none")[number], detectors=DETECTORS,
        sampler=td.Sampler(steps=4 + number, guidance_scale=5.0),
    )  # fmt: skip
    (made,) = guard.generate("a cat", seed=seed)
    if made.image is None:
        raise td.errors.RunFailed("; ".join(made.reasons))
    return torch.frombuffer(bytearray(made.image.tobytes()), dtype=torch.uint8)


def compared(work: Callable[..., torch.Tensor], pipes: list[Any], requests: int) -> Counter[str]:
    """Requests of two threads at once against the same requests alone."""
    wanted = [[work(pipes[n], n, seed) for seed in range(requests)] for n in range(2)]
    barrier = Barrier(2)

    def thread(number: int) -> list[str]:
        found = []
        barrier.wait()
        for seed in range(requests):
            try:
                same = torch.equal(work(pipes[number], number, seed), wanted[number][seed])
                found.append("equal" if same else "WRONG")
            except TadasuError:
                found.append("refused")
        return found

    with ThreadPoolExecutor(2) as pool:
        return Counter(outcome for found in pool.map(thread, range(2)) for outcome in found)


def evaluated(prompts: int) -> Counter[str]:
    """``evaluation.run`` under model offloading against the same run without it."""
    from tadasu.evaluation.suites.suite import Prompt, Suite
    from tadasu.evaluation.system import System

    suite = Suite(
        id="bench", prompts=tuple(Prompt(id=str(i), text=f"a cat {i}") for i in range(prompts))
    )
    pictures = []
    for offloaded in (False, True):
        pipe = fresh()
        if offloaded:
            pipe.enable_model_cpu_offload(device="cpu")
        systems = [
            System(pipe, sampler=td.Sampler(steps=4, guidance_scale=5.0)),
            System(pipe, guidance="sld:max", concepts=("a pistol",),
                   sampler=td.Sampler(steps=4, guidance_scale=5.0)),
            System(pipe, edits=(EDITS[0],), sampler=td.Sampler(steps=4, guidance_scale=5.0)),
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            td.evaluation.run(systems=systems, suites=[suite], folder=folder)
            from tadasu.evaluation.folder import Folder

            rows = list(Folder(folder).generations.rows())
        pictures.append([(row["outcome"], row["picture"]) for row in rows])
    plain = {picture for _, picture in pictures[0][:prompts]}
    steered = Counter(
        "equal" if one == other and one[1] not in plain else "WRONG"
        for one, other in zip(pictures[0][prompts:], pictures[1][prompts:], strict=True)
    )
    same = zip(pictures[0][:prompts], pictures[1][:prompts], strict=True)
    return steered + Counter("equal" if one == other else "WRONG" for one, other in same)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=24, help="of each of the two threads")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pipe = fresh()
    sibling = type(pipe)(
        **{name: part for name, part in pipe.components.items() if name != "scheduler"},
        scheduler=copy.deepcopy(pipe.scheduler),
        requires_safety_checker=False,
    )
    sibling.set_progress_bar_config(disable=True)
    rows = {
        "attach": (attached, [pipe, pipe]),
        "attach beside a plain call": (mixed, [pipe, pipe]),
        "applied": (applied, [pipe, pipe]),
        "Guard": (guarded, [pipe, pipe]),
        "shared parts, attach": (attached, [pipe, sibling]),
        "shared parts, applied": (applied, [pipe, sibling]),
        "shared parts, attach beside a plain call": (mixed, [pipe, sibling]),
    }
    found = {}
    for name, (work, pipes) in rows.items():
        began = time.perf_counter()
        found[name] = dict(compared(work, pipes, options.requests))
        print(f"{name}: {found[name]} ({time.perf_counter() - began:.0f} s)", flush=True)
    found["evaluation.run, model offload"] = dict(evaluated(options.requests))
    print(f"evaluation.run, model offload: {found['evaluation.run, model offload']}")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    EDITS = [td.editing.erase(fresh(), [name], preserve=["dog"]) for name in ("pistol", "cat")]
    DETECTORS: Any = None
    main()
