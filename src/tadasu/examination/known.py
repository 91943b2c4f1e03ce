"""Remember files: put their sketches into an index that later audits look new files up in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tadasu.auditing.base import Base
from tadasu.auditing.lineage import sketch
from tadasu.auditing.lineage_index import Index
from tadasu.auditing.read import read
from tadasu.errors import BadFile, BadInput
from tadasu.references import located


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """What became of one file.

    Attributes:
        path: the file.
        problem: why it was not put into the index; empty when it was.
    """

    path: Path
    problem: str = ""


def base_of(ref: str) -> Base:
    """The base as audits see it: a pipeline's folder is read without building the pipeline.

    Raises:
        BadFile: the folder holds no weights.
        MissingPart: a hub id, and the extra ``diffusers`` is not installed or the model not there.
    """
    ref = located(ref, "pipeline")
    if Path(ref).is_dir():
        return Base.from_folder(ref)
    from tadasu.backends.diffusers.denoise import PipelineDenoiser
    from tadasu.backends.diffusers.load import load

    return Base.of(PipelineDenoiser(load(ref, device="cpu")).tensors(), name=ref[:200])


def remember(
    index: str | Path, paths: Sequence[Path], base: Base, note: str = ""
) -> Iterator[Remembered]:
    """Add files to an index on disk, which is made when it is not there; written at the end.

    Args:
        index: the index file.
        paths: files to remember.
        base: the model they are for; the same that later audits name.
        note: why they are known.

    Raises:
        BadFile: the index is damaged or of another version.
        BadInput: no file could be read, so nothing was written.
    """
    where = Path(index)
    known = Index.load(where) if where.exists() else Index.of([], [])
    seen, before = {entry.digest for entry in known.entries}, len(known.entries)
    for path in paths:
        try:
            found = sketch(read(path, base), base)
            if not found.norm:
                raise BadFile("It changes nothing.")
            if found.digest in seen:
                raise BadFile("It is in the index already.")
        except BadInput as error:
            yield Remembered(path=path, problem=str(error))
            continue
        known, seen = known.with_entry(found, path.name, note), seen | {found.digest}
        yield Remembered(path=path)
    if len(known.entries) == before:
        raise BadInput("None of the files was added, so the index is as it was.")
    known.save(where)
