"""Error rates of a judge, counted on pictures with known answers, and kept in files.

A card says for each concept how many pictures that show it were flagged and how many that do not
were let pass. Pictures that the judge could not tell about are left out of both and counted by
themselves, because a judge that cannot tell has not been wrong; but it has not been right either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadFile, BadInput, shown
from tadasu.evaluation import written
from tadasu.evaluation.judge import ANY, Card, Judge
from tadasu.records import Json
from tadasu.statistics.rogan_gladen import ErrorRates

if TYPE_CHECKING:
    from PIL.Image import Image

KIND = "tadasu judge card"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A card and what it leaves out.

    Attributes:
        card: the error rates.
        open: by concept, pictures that the judge could not tell about.
        without: by concept, why it has no error rates.
    """

    card: Card
    open: Mapping[str, int]
    without: Mapping[str, str]


def count(
    truth: Mapping[str, Sequence[bool | None]],
    said: Mapping[str, Sequence[bool | None]],
    *,
    data: str,
    measured: str,
) -> Measured:
    """A card from what is so and what a judge said.

    Args:
        truth: by concept, for each picture whether it shows it; None where nobody knows. The key
            ``"any"`` is added where it is missing: any concept at all.
        said: by concept, for each picture whether the judge flags it; None where it cannot tell.
        data: on which pictures.
        measured: when, as a date, and by whom.

    Raises:
        BadInput: concepts or numbers of pictures that do not fit each other, or no data named.

    >>> found = count(
    ...     {"cat": [True, True, False, False]}, {"cat": [True, False, False, None]},
    ...     data="four pictures", measured="2026-11-21",
    ... )
    >>> rates = found.card.rates("cat")
    >>> (rates.caught, rates.unsafe, rates.passed, rates.safe), found.open["cat"]
    ((1, 2, 1, 1), 1)
    """
    if not data.strip() or not measured.strip():
        raise BadInput("A card says on which pictures and when it was measured.")
    if not truth or set(truth) != set(said):
        raise BadInput(
            f"A card needs the same concepts from both; given {', '.join(sorted(truth))} and "
            f"{', '.join(sorted(said))}."
        )
    lengths = {len(column) for column in (*truth.values(), *said.values())}
    if len(lengths) != 1:
        raise BadInput("A card needs one answer for each picture and concept from both.")
    columns = {c: (list(truth[c]), list(said[c])) for c in truth}
    if ANY not in columns:
        columns[ANY] = (_any(list(truth.values())), _any(list(said.values())))
    whole, open_, without = {}, {}, {}
    for concept, (real, told) in columns.items():
        pairs = [(r, t) for r, t in zip(real, told, strict=True) if r is not None]
        open_[concept] = sum(t is None for _, t in pairs)
        try:
            whole[concept] = ErrorRates(
                caught=sum(r and bool(t) for r, t in pairs if t is not None),
                unsafe=sum(r for r, t in pairs if t is not None),
                passed=sum(not r and not t for r, t in pairs if t is not None),
                safe=sum(not r for r, t in pairs if t is not None),
            )
        except (BadInput, ZeroDivisionError) as error:  # not enough pictures, or no better
            without[concept] = str(error)
    return Measured(
        card=Card(data=data, measured=measured, whole=whole), open=open_, without=without
    )


def measure(
    judge: Judge,
    images: Sequence[Image],
    truth: Mapping[str, Sequence[bool | None]],
    *,
    data: str,
    measured: str,
) -> Measured:
    """A card by showing a judge (an ensemble too) pictures with known answers.

    Raises:
        BadInput: as `count`; or the judge has no threshold for a concept.
    """
    lost = sorted(set(truth) - set(judge.thresholds) - {ANY})
    if lost:
        raise BadInput(f"The judge {shown(judge.name)} has no threshold for {', '.join(lost)}.")
    rows = [{s.concept: s.value for s in row} for row in judge.scores(images, ())]
    said = {c: [_flag(row.get(c), judge.thresholds[c]) for row in rows] for c in truth if c != ANY}
    if ANY in truth:
        said[ANY] = [judge.unsafe(row) for row in rows]
    return count(truth, said, data=data, measured=measured)


def write(card: Card, path: Path, *, judge: str) -> None:
    """Store a card beside the name of its judge.

    Raises:
        BadFile: it cannot be written.
    """
    content = {"kind": KIND, "judge": judge, **card.as_json()}
    written.write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read(path: Path, *, judge: str = "") -> Card:
    """A stored card.

    Args:
        path: of the file.
        judge: whom the card must be about; empty for anybody.

    Raises:
        BadFile: it is no card, its counts cannot be, or it is about another judge.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("kind") != KIND:
            raise ValueError(f"its kind is not {KIND!r}")
        if judge and content["judge"] != judge:
            raise ValueError(f"it is about {content['judge']!r}, not {judge!r}")
        return from_json(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{shown(path, 300)} is no judge card: {error}.") from error


def from_json(content: Mapping[str, Any]) -> Card:
    """What `Card.as_json` gave, as a card again.

    Raises:
        KeyError: a part is missing.
        ValueError: a count is none, or counts cannot be (`BadInput` is one).
    """
    return Card(
        data=str(content["data"]),
        measured=str(content["measured"]),
        whole=_rates(content["whole"]),
        regions=_rates(content["regions"]),
        beside=tuple(from_json(card) for card in content.get("beside", ())),
    )


def _rates(content: Mapping[str, Mapping[str, Json]]) -> dict[str, ErrorRates]:
    return {
        concept: ErrorRates(**{key: _whole(value) for key, value in counts.items()})
        for concept, counts in content.items()
    }


def _whole(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no count")
    return value


def _flag(value: float | None, threshold: float) -> bool | None:
    return None if value is None else value >= threshold


def _any(columns: Sequence[Sequence[bool | None]]) -> list[bool | None]:
    """Whether any is true; open where none is and one is open."""
    return [
        True if any(row) else None if any(v is None for v in row) else False
        for row in zip(*columns, strict=True)
    ]
