"""How far the work is: a bar in a terminal, a line now and then everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tadasu.cli.output import messages

Item = TypeVar("Item")
#: Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]
#: Seconds between two lines where there is no terminal.
PAUSE = 10.0


@contextmanager
def watched() -> Iterator[Report]:
    """Progress with the time left, on standard error."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages(), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


def counted(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, one by one, with progress."""
    with watched() as report:
        report(what, 0, total)
        for done, item in enumerate(items, 1):
            report(what, done, total)
            yield item


class Lines:
    """Progress for logs: a line at most every `PAUSE` seconds, with the time that is left.

    Args:
        clock: seconds, rising.
        write: takes a line.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self.clock = clock
        self.write = write or (lambda line: messages().print(line, markup=False))
        self.begun: dict[str, tuple[float, int]] = {}
        self.last = clock()

    def __call__(self, what: str, done: int, total: int) -> None:
        """What is being done, how much of it is done, and how much there is."""
        now = self.clock()
        start, first = self.begun.setdefault(what, (now, done))
        if now - self.last < PAUSE or done >= total:
            return
        self.last = now
        left = ""
        if done > first:
            left = f", {span((now - start) / (done - first) * (total - done))} left"
        self.write(f"{what} {done}/{total}{left}")


def span(seconds: float) -> str:
    """A time that people read.

    >>> span(42), span(4000)
    ('42 s', '1 h 7 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
