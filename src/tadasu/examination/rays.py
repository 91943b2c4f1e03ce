"""Audits on a Ray cluster: actors that each hold one base, and files handed to whoever is free.

An actor that dies (its machine went away, its memory ran out) is replaced by a new one and its file
is handed out again, to any actor; a file that ends `ATTEMPTS` actors becomes an unreadable finding
instead of stopping the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.auditing.findings import Finding
from tadasu.errors import BadInput, MissingPart, RunFailed

if TYPE_CHECKING:
    from tadasu.examination.run import Audit

ATTEMPTS = 3
#: What the actors are called, for those who watch the cluster.
NAME = "tadasu-auditor"


class Worker:
    """One base on one device.

    Args:
        audit: what is audited against.
    """

    def __init__(self, audit: Audit) -> None:
        from tadasu.examination.run import Auditor

        self.auditor = Auditor(audit)

    def file(self, path: str) -> list[dict[str, Any]]:
        """The findings of one file, as plain values."""
        return [each.as_json() for each in self.auditor.file(Path(path))]


def run(
    audit: Audit, paths: Sequence[Path], *, workers: int | None = None
) -> Iterator[tuple[str, list[Finding]]]:
    """Files and their findings, in the order in which they are done.

    Args:
        audit: what is audited against; the base by name.
        paths: files that every machine of the cluster can read.
        workers: how many actors; None for one per GPU, else one per core.

    Raises:
        MissingPart: the extra ``ray`` is not installed.
        BadInput: the base is a pipeline in this process.
        RunFailed: no actor could be started.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPart.extra("auditing on a cluster", "ray") from error
    if not isinstance(audit.base, str):
        raise BadInput("On a cluster give the base as a folder or hub id, not as a pipeline.")
    if not ray.is_initialized():
        ray.init(logging_level=logging.ERROR, log_to_driver=False)
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus, cores = (int(there.get(kind, 0)) for kind in ("GPU", "CPU"))
    count = max(1, min(workers or gpus or cores, len(paths)))
    made = ray.remote(num_gpus=share_of(gpus, count), num_cpus=1, max_restarts=0)(Worker)
    # A restarted actor refuses work until it is up again, which would use up a file's attempts;
    # a new one keeps it waiting.
    yield from _handed_out(ray, lambda: made.remote(audit), count, [str(path) for path in paths])


def _handed_out(
    ray: Any, start: Callable[[], Any], count: int, paths: list[str]
) -> Iterator[tuple[str, list[Finding]]]:
    """Give each free actor a file until none is left; a lost file goes back into the queue."""
    from tadasu.examination.run import unreadable

    free = [start() for _ in range(count)]
    waiting, tries = list(reversed(paths)), dict.fromkeys(paths, 0)
    running: dict[Any, tuple[str, Any]] = {}
    reasons: dict[str, str] = {}
    while waiting or running:
        while waiting and free:
            path, actor = waiting.pop(), free.pop()
            tries[path] += 1
            running[actor.file.remote(path)] = (path, actor)
        done, _ = ray.wait(list(running), num_returns=1)
        path, actor = running.pop(done[0])
        try:
            found = [Finding.from_json(each) for each in ray.get(done[0])]
        except ray.exceptions.ActorDiedError as error:
            if "creation task failed" in str(error):
                raise RunFailed(f"An audit worker could not be started: {error}") from error
            found = None
        except ray.exceptions.RayError as error:  # the worker or its machine, not the file
            reasons[path] = " ".join(str(error).split())[:300]
            ray.kill(actor)
            found = None
        free.append(actor if found is not None else start())
        if found is None and tries[path] < ATTEMPTS:
            waiting.append(path)
            continue
        yield path, found or [unreadable(path, _ended(reasons.get(path, "")))]


def _ended(reason: str) -> str:
    return f"It ended the worker that examined it each time. {reason}".strip()


def share_of(gpus: int, workers: int) -> float:
    """How much of a GPU each worker reserves, so that none waits for one for ever.

    Ray gives a worker parts of one GPU only.

    >>> share_of(8, 2), share_of(1, 2), share_of(3, 5), share_of(0, 2)
    (1.0, 0.5, 0.5, 0.0)
    """
    return 1 / -(-workers // gpus) if gpus else 0.0
