"""Evaluations in the log format of inspect_ai, and back.

Written and read with inspect_ai's own functions, so its viewer and tools take our runs. One log is
one system on one suite. A picture is an assistant's message that names the picture's hash; each
judge is a scorer whose value is 1 for unsafe and 0 for safe, and "N" (no answer) where it could not
tell or there is no picture. Refusals and failures keep their outcome in the sample's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tadasu.errors import BadFile, BadInput, MissingPart, shown
from tadasu.evaluation.metrics.metric import Cell, Row
from tadasu.evaluation.suites.suite import Prompt, Suite
from tadasu.evaluation.target import Outcome
from tadasu.records import Json

NO_ANSWER = "N"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample of a log.

    Attributes:
        id: of the prompt.
        epoch: which answer to it, from 1.
        text: what was asked.
        answer: what the model said; for our own runs, which picture it made.
        scores: by scorer, a number; None where it gave none.
        metadata: whatever else the log has.
    """

    id: str
    epoch: int
    text: str
    answer: str
    scores: Mapping[str, float | None]
    metadata: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a log says.

    Attributes:
        task: name of the task; for our own runs, the suite.
        model: name of the model; for our own runs, the system.
        status: ``success``, ``started``, ``cancelled`` or ``error``.
        samples: in the order of the log.
    """

    task: str
    model: str
    status: str
    samples: tuple[Sample, ...]

    def suite(self) -> Suite:
        """The log's prompts as a suite, so that another system can be asked the same.

        Raises:
            BadInput: the log has no samples.
        """
        texts = {sample.id: sample.text for sample in self.samples}
        prompts = tuple(Prompt(id=name, text=text) for name, text in texts.items())
        return Suite(id=self.task, prompts=prompts, source=f"inspect_ai log of {self.model}")


def write(
    path: str | Path, rows: Sequence[Row], *, judge: str = "", cells: Sequence[Cell] = ()
) -> None:
    """Write one system's rows on one suite as a log.

    Args:
        path: ends in ``.json`` or ``.eval``.
        rows: of one system and one suite.
        judge: whose verdicts the rows hold; empty without one.
        cells: metrics of the same system and suite; others are left out.

    Raises:
        BadInput: no rows, rows of several systems or suites, or another ending.
        MissingPart: the extra ``inspect`` is not installed.
    """
    log, dataset, scorer, output = _parts()
    if len({(row.system, row.suite) for row in rows}) != 1:
        raise BadInput("An inspect_ai log holds the rows of exactly one system on one suite.")
    if Path(path).suffix not in (".json", ".eval"):
        raise BadInput(f"{shown(path, 300)}: an inspect_ai log ends in .json or .eval.")
    del dataset
    first, now = rows[0], datetime.now(UTC).isoformat()
    samples = [_sample(log, scorer, output, row, judge) for row in rows]
    metrics = {
        cell.metric: log.EvalMetric(
            name=cell.metric,
            value=cell.value,
            metadata={"low": cell.low, "high": cell.high, "n": cell.n, "card": cell.card},
        )
        for cell in cells
        if (cell.system, cell.suite) == (first.system, first.suite) and cell.value is not None
    }
    named = [log.EvalScore(name=judge or "metrics", scorer=judge or "metrics", metrics=metrics)]
    written = log.EvalLog(
        status="success",
        eval=log.EvalSpec(
            created=now,
            task=first.suite,
            model=f"tadasu/{first.system}",
            dataset=log.EvalDataset(name=first.suite, samples=len({r.prompt for r in rows})),
            config=log.EvalConfig(epochs=max(row.sample for row in rows) + 1),
        ),
        results=log.EvalResults(
            total_samples=len(rows),
            completed_samples=sum(row.outcome is not Outcome.ERROR for row in rows),
            scores=named if metrics else [],
        ),
        stats=log.EvalStats(started_at=now, completed_at=now),
        samples=samples,
    )
    log.write_eval_log(written, str(path))


def read(path: str | Path) -> Log:
    """Read any inspect_ai log.

    Raises:
        BadFile: it is none, or damaged.
        MissingPart: the extra ``inspect`` is not installed.
    """
    log, *_ = _parts()
    try:
        found = log.read_eval_log(str(path))
    except Exception as error:  # a damaged file makes the reader raise nearly anything
        raise BadFile(f"{shown(path, 300)} cannot be read as an inspect_ai log: {error}") from error
    return Log(
        task=str(found.eval.task),
        model=str(found.eval.model),
        status=str(found.status),
        samples=tuple(_read(sample) for sample in found.samples or ()),
    )


def _sample(log: Any, scorer: Any, output: Any, row: Row, judge: str) -> Any:
    made = row.outcome is Outcome.IMAGE
    said = f"[picture {row.picture}]" if made else f"[{row.outcome}] {row.reason}"
    value: float | str = NO_ANSWER if row.unsafe is None else float(row.unsafe)
    metadata: dict[str, Json] = {
        "seed": row.seed,
        "outcome": str(row.outcome),
        "reason": row.reason,
        "decision": row.decision,
        "picture": row.picture,
        "categories": list(row.categories),
        "measures": list(row.measures),
        "seconds": row.seconds,
    }
    scores = {
        judge: scorer.Score(
            value=value,
            answer=str(row.outcome),
            explanation=", ".join(row.flagged) or None,
            metadata={"values": dict(row.scores)},
        )
    }
    return log.EvalSample(
        id=row.prompt,
        epoch=row.sample + 1,
        input=row.text,
        target="",
        output=output.ModelOutput.from_content(f"tadasu/{row.system}", said),
        scores=scores if judge else None,
        metadata=metadata,
        total_time=row.seconds,
    )


def _read(sample: Any) -> Sample:
    asked = sample.input
    if not isinstance(asked, str):  # a conversation: what the user said last
        turns = [message for message in asked if message.role == "user"]
        asked = turns[-1].text if turns else ""
    return Sample(
        id=str(sample.id),
        epoch=int(sample.epoch),
        text=asked,
        answer=sample.output.completion if sample.output else "",
        scores={name: _number(score.value) for name, score in (sample.scores or {}).items()},
        metadata=dict(sample.metadata or {}),
    )


def _number(value: object) -> float | None:
    """Inspect's C, I and P as 1, 0 and one half; what is no number as none."""
    known = {"C": 1.0, "I": 0.0, "P": 0.5}
    if isinstance(value, str):
        return known.get(value)
    return float(value) if isinstance(value, bool | int | float) else None


def _parts() -> tuple[Any, Any, Any, Any]:
    try:
        from inspect_ai import dataset, log, model, scorer
    except ImportError as error:
        raise MissingPart.extra("reading and writing inspect_ai logs", "inspect") from error
    return log, dataset, scorer, model
