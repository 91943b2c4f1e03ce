"""Pictures made by the workers of a Ray cluster; a worker that dies costs only its batch.

Every worker holds the systems. Batches are handed out one by one, so a slow worker holds up
nothing; the runner writes down what comes back, so there is one writer however many workers.
Workers compute with as many threads as the process that hands out: another number changes the last
bits of a picture, and tables would no longer be those of one process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from tadasu.errors import BadInput, MissingPart, RunFailed
from tadasu.evaluation.engine import Made, answered
from tadasu.evaluation.plan import Batch
from tadasu.evaluation.target import Target
from tadasu.examination.rays import share_of

#: How often one batch may take its worker with it before the run gives up.
ATTEMPTS = 3


class _Worker:
    """Holds the systems and makes batches; one is open at a time."""

    def __init__(self, targets: Sequence[Target], threads: int | None) -> None:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        self._targets = targets
        self._open: int | None = None
        self._context: AbstractContextManager[None] | None = None

    def make(self, batch: Batch) -> list[Made]:
        """The answers to one batch."""
        if self._open != batch.target:
            if self._context is not None:
                self._context.__exit__(None, None, None)
            self._context = self._targets[batch.target].opened()
            self._context.__enter__()
            self._open = batch.target
        return answered(self._targets[batch.target], batch)


class OnRay:
    """Hands batches to Ray actors.

    Args:
        workers: how many actors.
        cpus: that Ray reserves for each; 0 places them anywhere.
        gpus: that Ray reserves for each; None for a whole GPU where there are enough, else for the
            share that lets all workers run, and 0 on a cluster without any.

    A cluster that is already connected is used; otherwise a local one is started for the run.

    Raises:
        MissingPart: Ray is not installed.
        BadInput: fewer than one worker.
    """

    def __init__(self, *, workers: int = 2, cpus: float = 1.0, gpus: float | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingPart.extra("--engine ray", "ray") from error
        if workers < 1:
            raise BadInput(f"Ray needs at least one worker; given {workers}.")
        self._ray = ray
        self.workers, self.cpus, self.gpus = workers, cpus, gpus
        self.replaced = 0

    def make(
        self, targets: Sequence[Target], work: Sequence[Batch]
    ) -> Iterator[tuple[Batch, list[Made]]]:
        """Every batch with its answers, in the order in which they are done.

        Raises:
            RunFailed: a batch ended `ATTEMPTS` workers.
        """
        ray = self._ray
        started = not ray.is_initialized()
        if started:
            ray.init(num_cpus=max(self.workers, 1), include_dashboard=False, log_to_driver=False)
        try:
            yield from self._hand_out(targets, work)
        finally:
            if started:
                ray.shutdown()

    def _hand_out(
        self, targets: Sequence[Target], work: Sequence[Batch]
    ) -> Iterator[tuple[Batch, list[Made]]]:
        ray = self._ray
        held = ray.put(list(targets))
        there = int(ray.cluster_resources().get("GPU", 0))
        gpus = share_of(there, self.workers) if self.gpus is None else self.gpus
        actor = ray.remote(num_cpus=self.cpus, num_gpus=gpus)(_Worker)
        waiting = list(reversed(work))
        attempts: dict[Batch, int] = {}
        running: dict[Any, tuple[Any, Batch]] = {}
        threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
        free = [actor.remote(held, threads) for _ in range(min(self.workers, len(work)))]
        while waiting or running:
            while waiting and free:
                worker, batch = free.pop(), waiting.pop()
                running[worker.make.remote(batch)] = (worker, batch)
            done, _ = ray.wait(list(running), num_returns=1)
            worker, batch = running.pop(done[0])
            try:
                made: list[Made] = ray.get(done[0])
            except ray.exceptions.RayActorError as error:
                self.replaced += 1
                attempts[batch] = attempts.get(batch, 0) + 1
                if attempts[batch] >= ATTEMPTS:
                    raise RunFailed(f"One batch ended {ATTEMPTS} workers: {error}") from error
                waiting.append(batch)
                free.append(actor.remote(held, threads))
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from error
            free.append(worker)
            yield batch, made
