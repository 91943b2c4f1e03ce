"""``td.evaluation.run(systems=…, suites=…)``: generate, judge, tables, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tadasu.errors import BadInput
from tadasu.evaluation import runner
from tadasu.evaluation.engine import Engine
from tadasu.evaluation.engine import engine as engine_of
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.judge import Encoder, Judge
from tadasu.evaluation.results import Run, duckdb_or_say
from tadasu.evaluation.runner import Progress, silent
from tadasu.evaluation.suites.registry import find, from_world
from tadasu.evaluation.suites.suite import Suite
from tadasu.evaluation.target import Target


def run(
    *,
    systems: Sequence[Target],
    suites: Sequence[Suite | str | Any],
    judges: Sequence[Judge] = (),
    encoder: Encoder | None = None,
    samples: int = 1,
    n: int | None = None,
    folder: str | Path = "evaluation",
    cache: str | Path | None = None,
    engine: str | Engine = "local",
    workers: int = 2,
    retry_errors: bool = False,
    progress: Progress = silent,
) -> Run:
    """Makes every picture of every system on every suite, judges them, and gives the tables.

    A run that was stopped goes on when it is called again with the same folder.

    Args:
        systems: the first is what the others are compared with.
        suites: suites, names or files as `find` takes them, or what ``td.world.suite`` gives.
        judges: who judges; none leaves the pictures unjudged, `rejudge` can do it later.
        encoder: a CLIP, for alignment, drift and diversity.
        samples: pictures for each prompt.
        n: prompts of each suite, spread evenly over it; None takes all.
        folder: where everything is kept.
        cache: a folder for pictures that several runs share; None for the run's own.
        engine: ``local``, ``ray``, or an engine.
        workers: of a Ray cluster.
        retry_errors: ask again where an earlier start of this run got a failure.
        progress: is told what is done.

    Raises:
        BadInput: nothing to do, or the folder holds another run.
        MissingPart: Ray or the extra ``evaluate`` is not installed; nothing was made.
        RunFailed: the disk is full; everything so far is kept.
    """
    duckdb_or_say()  # a missing extra shows before the first picture
    chosen = [_suite(each).take(n) for each in suites]
    if not chosen or not systems:
        raise BadInput("An evaluation needs at least one system and one suite.")
    made = Folder(folder, cache)
    where = engine_of(engine, workers=workers) if isinstance(engine, str) else engine
    with made.locked():
        made.begin(systems, chosen, samples)
        runner.generate(made, systems, where, retry_errors=retry_errors, progress=progress)
        runner.judge(made, judges, encoder, progress=progress)
        done = Run(folder)
        done.write_parquet()
    return done


def rejudge(
    folder: str | Path,
    judges: Sequence[Judge],
    encoder: Encoder | None = None,
    *,
    progress: Progress = silent,
) -> Run:
    """Judges the pictures of a run that was made; no picture is made.

    Args:
        folder: of the run.
        judges: who looks; a judge of a name that looked before takes its place in the tables.
        encoder: as in `run`.
        progress: is told what is done.

    Raises:
        BadFile: there is no run, or a picture is damaged.
        RunFailed: the disk is full; everything so far is kept.
    """
    made = Folder(folder)
    made.content  # noqa: B018 - says so at once where there is no run
    with made.locked():
        runner.judge(made, judges, encoder, progress=progress)
        done = Run(folder)
        done.write_parquet()
    return done


def _suite(given: Suite | str | Any) -> Suite:
    if isinstance(given, Suite):
        return given
    return find(given) if isinstance(given, str) else from_world(given)
