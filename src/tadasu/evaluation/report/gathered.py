"""Everything a report says, whatever it is written as."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tadasu.errors import BadInput
from tadasu.evaluation.comparing import Difference, compare
from tadasu.evaluation.metrics import registry
from tadasu.evaluation.metrics.metric import Cell
from tadasu.evaluation.results import ALL, Run


@dataclass(frozen=True, kw_only=True)
class Table:
    """One metric: a row for each system, a column for each suite it applies to.

    Attributes:
        name: of the metric.
        titles: in English and Japanese.
        better: ``lower``, ``higher`` or ``neither``.
        unit: of its numbers.
        judge: whose scores; empty where no judge comes in.
        suites: the columns.
        cells: by system and suite.
        cards: what the cells' marks mean, in the order of the marks.
    """

    name: str
    titles: tuple[str, str]
    better: str
    unit: str
    judge: str
    suites: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]
    cards: tuple[str, ...]

    def mark(self, cell: Cell) -> str:
        """The letter of a cell's judge card."""
        return chr(ord("a") + self.cards.index(cell.card))


@dataclass(frozen=True, kw_only=True)
class Point:
    """A system on the four axes, over all suites.

    Attributes:
        system: its name.
        unsafe: unsafe pictures served per request.
        refused: harmless requests refused.
        shows: requests whose picture shows what was asked.
        seconds: per request.
        front: whether no other system is at least as good on all four and better on one.
    """

    system: str
    unsafe: Cell | None
    refused: Cell | None
    shows: Cell | None
    seconds: Cell | None
    front: bool = False


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A report before it is written.

    Attributes:
        title: of the report.
        systems: names, the first is the reference.
        about: system name to what it is made of, in words.
        suites: name, words, source, prompts, pictures a prompt, hash.
        judges: name and card in words.
        tables: one a metric and judge.
        points: systems on the four axes.
        tests: paired tests of every system against the first.
        missing: requests without an answer.
        version: of this software.
    """

    title: str
    systems: tuple[str, ...]
    about: dict[str, str]
    suites: tuple[dict[str, str], ...]
    judges: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    points: tuple[Point, ...]
    tests: tuple[Difference, ...]
    missing: int
    version: str


def gather(run: Run, *, judge: str = "", title: str = "") -> Gathered:
    """Tables, points and tests of a run.

    Args:
        run: what was found.
        judge: whose scores lead; the other judges' safety numbers follow in tables of their own.
        title: of the report.
    """
    lead = judge or (run.judges[0] if run.judges else "")
    tables = [
        _table(run, name, lead, run.cells(lead))
        for name in registry.names()
        if any(cell.metric == name for cell in run.cells(lead))
    ]
    for other in run.judges:
        if other != lead:
            for name in ("inappropriate_probability", "served_unsafe"):
                tables.insert(len(tables), _table(run, name, other, run.cells(other)))
    samples = int(run.content["samples"])
    return Gathered(
        title=title or f"Evaluation of {len(run.systems)} systems on {len(run.suites)} suites",
        systems=tuple(run.systems),
        about={system["name"]: _about(system) for system in run.content["systems"]},
        suites=tuple(
            {
                "id": suite.id,
                "about": suite.about,
                "source": suite.source,
                "prompts": f"{len(suite.prompts):,}",
                "samples": str(suite.samples or samples),
                "hash": suite.hash[:19],
            }
            for suite in run.suites
        ),
        judges=tuple((each["name"], _card(each)) for each in run.content["judges"]),
        tables=tuple(tables),
        points=_points(run, run.cells(lead)),
        tests=tuple(_tests(run, lead)),
        missing=run.missing,
        version=run.content["version"],
    )


def number(cell: Cell, unit: str) -> str:
    """A cell's value in words: ``12.5 %``, ``0.214``, ``1.3 s``, or a dash."""
    return _number(cell.value, unit)


def limits(cell: Cell, unit: str) -> str:
    """A cell's interval in words."""
    if cell.low is None or cell.high is None:
        return "no interval"
    return f"[{_number(cell.low, unit, bare=True)}, {_number(cell.high, unit, bare=True)}]"


def corrected(cell: Cell) -> str:
    """The rate without the judge's errors in words; empty where there is none."""
    right = cell.corrected
    if right is None:
        return ""
    value, low, high = (f"{100 * x:.1f}" for x in (right.estimate, right.low, right.high))
    return f"corrected {value} [{low}, {high}]"


def _number(value: float | None, unit: str, *, bare: bool = False) -> str:
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f}" + ("" if bare else " %")
    if unit == "bytes":
        return f"{value / 2**20:,.0f}" + ("" if bare else " MiB")
    if unit == "seconds":
        return f"{value:.3f}" + ("" if bare else " s")
    return f"{value:.3f}"


def _table(run: Run, name: str, judge: str, cells: Sequence[Cell]) -> Table:
    metric = registry.find(name)
    own = {(cell.system, cell.suite): cell for cell in cells if cell.metric == name}
    used = {suite for _, suite in own}
    return Table(
        name=name,
        titles=(metric.title, metric.title_ja),
        better=metric.better,
        unit=metric.unit,
        judge=judge if name in ("inappropriate_probability", "served_unsafe", "shows") else "",
        suites=tuple(s for s in (*(each.id for each in run.suites), ALL) if s in used),
        cells=own,
        cards=tuple(dict.fromkeys(cell.card for cell in own.values())),
    )


def _points(run: Run, cells: Sequence[Cell]) -> tuple[Point, ...]:
    pooled = {(cell.system, cell.metric): cell for cell in cells if cell.suite == ALL}
    points = [
        Point(
            system=system,
            unsafe=pooled.get((system, "served_unsafe")),
            refused=pooled.get((system, "over_blocking")),
            shows=pooled.get((system, "shows")),
            seconds=pooled.get((system, "seconds")),
        )
        for system in run.systems
    ]
    places = [_place(point) for point in points]
    return tuple(
        dataclasses.replace(point, front=not any(_beats(other, place) for other in places))
        for point, place in zip(points, places, strict=True)
    )


def _place(point: Point) -> tuple[float, ...]:
    """A system's four numbers, all so that less is better."""

    def of(cell: Cell | None, sign: float = 1.0) -> float:
        return sign * cell.value if cell is not None and cell.value is not None else 0.0

    return of(point.unsafe), of(point.refused), of(point.shows, -1.0), of(point.seconds)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _tests(run: Run, judge: str) -> list[Difference]:
    pairs = [(run.systems[0], other) for other in run.systems[1:]]
    if not pairs:
        return []
    try:
        return compare(run, run, pairs, judge=judge)
    except BadInput:  # nothing that could be held against each other
        return []


def _about(system: dict[str, object]) -> str:
    """What a system is made of, in a line."""
    about = system["about"]
    assert isinstance(about, dict)
    parts = []
    rule = about.get("guidance")
    if isinstance(rule, dict):
        values = ", ".join(f"{k}={v}" for k, v in rule["parameters"].items())
        parts.append(f"{rule['rule']}({values}), {len(rule['concepts'])} concepts")
    for key in ("edits", "adapters"):
        if about.get(key):
            parts.append(f"{len(about[key])} {key}")
    if about.get("guard"):
        parts.append("guard")
    sampler = about.get("sampler") or {}
    parts += [f"{k}={v}" for k, v in sampler.items() if v is not None]
    return "; ".join(parts) or "plain" + f" {str(system['id'])[:19]}"


def _card(judge: dict[str, object]) -> str:
    """A judge's card in words: every concept's error rates, or that there are none."""
    card = judge["card"]
    if not isinstance(card, dict):
        return "no judge card: its error rates were not measured"
    return ". Also ".join(_measured(each) for each in (card, *card.get("beside", ())))


def _measured(card: dict[str, Any]) -> str:
    lines = [f"measured on {card['data']}, {card['measured']}"]
    for part, words in (("whole", "whole pictures"), ("regions", "by regions")):
        told = [
            f"{concept} {rates['caught']}/{rates['unsafe']} and {rates['passed']}/{rates['safe']}"
            for concept, rates in card[part].items()
        ]
        if told:
            lines.append(f"{words}, caught and let pass: {'; '.join(told)}")
    return ". ".join(lines)
