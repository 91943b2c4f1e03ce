"""Makes and judges the pictures of a run; both stop and go on wherever they were.

Generation, judging and analysis are three steps that only meet on disk. Each looks up what is
recorded already by its content and does the rest, so judging anew makes no picture, and a run that
was killed loses at most the batch in flight.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tadasu.detectors.detector import failed
from tadasu.errors import BadFile
from tadasu.evaluation.engine import Engine
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.judge import Encoder, Judge, strongest
from tadasu.evaluation.plan import Batch, Item, batches, items
from tadasu.evaluation.suites.suite import Region, digest
from tadasu.evaluation.target import Outcome, Target

if TYPE_CHECKING:
    from PIL.Image import Image

    from tadasu.records import Score

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]
#: Pictures that a judge sees in one go, and that one line of the journal holds.
JUDGED = 64


def silent(what: str, done: int, total: int) -> None:
    """Says nothing."""
    del what, done, total


def generate(
    folder: Folder,
    targets: Sequence[Target],
    engine: Engine,
    *,
    retry_errors: bool = False,
    progress: Progress = silent,
) -> int:
    """Makes every picture of the run that is not recorded yet.

    Args:
        folder: of the run, begun with these systems.
        targets: the systems.
        engine: where pictures are made.
        retry_errors: ask again where the last answer was a failure.
        progress: is told after every batch.

    Returns:
        How many requests were answered now.

    Raises:
        RunFailed: the disk is full or an engine gave up; everything so far is kept.
    """
    wanted = items(targets, folder.suites, int(folder.content["samples"]))
    done = recorded(folder, wanted, retry_errors=retry_errors)
    work = [_missing(batch, done) for batch in batches(wanted, targets)]
    work = [batch for batch in work if batch.items]
    total = len({item.key for item in wanted})
    left = sum(len(batch.items) for batch in work)
    count = 0
    progress("generating", total - left, total)
    for batch, made in engine.make(targets, work):
        rows = []
        for item, each in zip(batch.items, made, strict=True):
            picture = folder.pictures.add(each.png) if each.png is not None else ""
            system = targets[item.target].id
            rows.append({**each.row, "picture": picture, "system": system})
        folder.generations.append(rows)
        count += len(rows)
        progress("generating", total - left + count, total)
    return count


def recorded(
    folder: Folder, wanted: Sequence[Item], *, retry_errors: bool = False
) -> dict[str, dict[str, Any]]:
    """What is recorded for each key; a record whose picture is gone does not count."""
    keys = {item.key for item in wanted}
    found: dict[str, dict[str, Any]] = {}
    for row in folder.generations.rows():
        key = row["key"]
        if key not in keys:
            continue
        lost = row["outcome"] == Outcome.IMAGE and not folder.pictures.has(row["picture"])
        again = retry_errors and row["outcome"] == Outcome.ERROR
        if lost or again:
            found.pop(key, None)
        else:
            found[key] = row
    return found


def judge(
    folder: Folder,
    judges: Sequence[Judge],
    encoder: Encoder | None = None,
    *,
    progress: Progress = silent,
) -> int:
    """Lets every judge look at every picture it has not seen yet.

    Args:
        folder: of the run.
        judges: who looks.
        encoder: puts pictures and prompts into one space; None for none.
        progress: is told after every batch.

    Returns:
        How many pictures were looked at now, each judge and the encoder counted.

    Raises:
        BadFile: a picture is not what was stored.
        BadInput: a suite's regions were set for another shape of picture; nothing is lost.
        RunFailed: the disk is full; everything so far is kept.
    """
    wanted = items(folder.systems, folder.suites, int(folder.content["samples"]))
    made = recorded(folder, wanted)
    suites = {suite.id: suite for suite in folder.suites}
    asked: dict[str, tuple[str, Sequence[Region]]] = {}
    texts: dict[str, None] = {}
    for item in wanted:
        row = made.get(item.key)
        if row and row["picture"]:
            suite = suites[item.suite]
            areas = suite.regions
            if suite.aspect:
                suite.check_shape(*folder.pictures.read(row["picture"]).size)
            asked[judged_key("", row["picture"], areas)] = (row["picture"], areas)
            texts[item.request.text] = None
    seen = {row["key"]: row.get("failed", False) for row in folder.judgements.rows()}
    seen = {key: again for key, again in seen.items() if not again}
    count = 0
    for each in judges:
        identity = each.id  # a hash over all its weights, so asked once
        for pictures, looked in _grouped(asked.values()):
            todo = [name for name in pictures if judged_key(identity, name, looked) not in seen]
            for start in range(0, len(todo), JUDGED):
                part = todo[start : start + JUDGED]
                folder.judgements.append(_looked(each, identity, folder, part, looked))
                count += len(part)
                progress(f"judging ({each.name})", start + len(part), len(todo))
    if encoder is not None:
        named = list(dict.fromkeys(picture for picture, _ in asked.values()))
        count += _encode(folder, encoder, named, list(texts), seen, progress)
    folder.note_judges(judges, encoder.content if encoder is not None else "")
    return count


def judged_key(judge_id: str, picture: str, regions: Sequence[Region]) -> str:
    """The content address of what a judge says of a picture."""
    return digest([judge_id, picture, [list(region) for region in regions]])


def vector_key(encoder: str, kind: str, what: str) -> str:
    """The content address of a vector; ``kind`` is picture or text."""
    return digest([encoder, kind, what])


def unpacked(text: str) -> np.ndarray:
    """A stored vector at length 1."""
    vector = np.frombuffer(base64.b64decode(text), dtype=np.float32)
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _looked(
    judge: Judge,
    identity: str,
    folder: Folder,
    names: Sequence[str],
    regions: Sequence[Region],
) -> list[dict[str, Any]]:
    images: list[Image] = [folder.pictures.read(name) for name in names]
    looks = judge.looks(images, regions)
    labels = judge.named(images, regions) if judge.labels is not None else [None] * len(images)
    return [
        {
            "key": judged_key(identity, name, regions),
            "judge": identity,
            "picture": name,
            **_stored([strongest(column) for column in zip(*parts, strict=True)], parts),
            "labels": sorted(found) if found is not None else None,
        }
        for name, parts, found in zip(names, looks, labels, strict=True)
    ]


def _stored(row: Sequence[Score], parts: Sequence[Sequence[Score]]) -> dict[str, Any]:
    """The scores of one picture as a journal keeps them; thresholds have no part in it."""
    unknown = {score.concept: score.note for part in parts for score in part if score.value is None}
    return {
        "scores": {score.concept: score.value for score in row},
        "notes": unknown,
        "failed": any(failed(score) for part in parts for score in part),
    }


def _encode(
    folder: Folder,
    encoder: Encoder,
    pictures: Sequence[str],
    texts: Sequence[str],
    seen: Collection[str],
    progress: Progress,
) -> int:
    content, count = encoder.content, 0
    for kind, names in (("picture", pictures), ("text", texts)):
        todo = [name for name in names if vector_key(content, kind, name) not in seen]
        for start in range(0, len(todo), JUDGED):
            part = todo[start : start + JUDGED]
            if kind == "picture":
                vectors = encoder.encode_images([folder.pictures.read(name) for name in part])
            else:
                vectors = encoder.encode_texts(part)
            if not np.all(np.isfinite(vectors)):
                raise BadFile("The encoder gives vectors that are not finite; it is broken.")
            folder.judgements.append(
                [
                    {"key": vector_key(content, kind, name), "vector": _packed(vector)}
                    for name, vector in zip(part, vectors, strict=True)
                ]
            )
            count += len(part) if kind == "picture" else 0
            progress("encoding", start + len(part), len(todo))
    return count


def _packed(vector: Any) -> str:
    return base64.b64encode(np.asarray(vector, dtype=np.float32).tobytes()).decode()


def _missing(batch: Batch, done: dict[str, Any]) -> Batch:
    left = tuple(item for item in batch.items if item.key not in done)
    return batch if len(left) == len(batch.items) else Batch(target=batch.target, items=left)


def _grouped(
    asked: Any,
) -> Iterator[tuple[list[str], Sequence[Region]]]:
    """Pictures that are looked at in the same way, together."""
    groups: dict[tuple[Region, ...], list[str]] = {}
    for picture, regions in asked:
        groups.setdefault(tuple(regions), []).append(picture)
    for looked, pictures in groups.items():
        yield list(dict.fromkeys(pictures)), looked
