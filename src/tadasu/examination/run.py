"""From files and folders to findings: reads, looks up what is known, examines, keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tadasu.auditing.adapter import Adapter
from tadasu.auditing.bank import INDEX, Bank, default_folder
from tadasu.auditing.base import Base
from tadasu.auditing.containers import open_file
from tadasu.auditing.findings import Evidence, Finding, response
from tadasu.auditing.lineage import sketch
from tadasu.auditing.lineage_index import Index, Match
from tadasu.auditing.read import read
from tadasu.backends.diffusers.denoise import PipelineDenoiser
from tadasu.backends.diffusers.load import load
from tadasu.errors import BadInput, TadasuError, UnknownName
from tadasu.examination.examiner import Examiner
from tadasu.examination.results import Results, digest
from tadasu.examination.settings import Settings, settings
from tadasu.examination.walk import files
from tadasu.policy import Policy
from tadasu.references import located

#: What one file's examination may end with; memory that ran out on a GPU is a RuntimeError.
FAILURES = (TadasuError, OSError, MemoryError, RuntimeError, ArithmeticError, ValueError, KeyError)
Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = ("local", "ray")
#: (file, its findings, files done, files in all)
Progress = Callable[[str, list[Finding], int, int], None]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is audited against; everything by name, so that it can be sent to another machine.

    Attributes:
        base: a pipeline's folder or hub id, or the pipeline itself (not with the engine ``ray``).
        bank: folder of the concept bank.
        policy: a bundled policy or a file.
        concepts: of the bank or the policy; empty for all that the policy speaks of.
        preset: ``calibrated`` or ``paia``.
        strengths: at which files are probed; empty for the preset's.
        resolution: edge of the reference pictures in pixels; 0 for the model's own.
        gradients: pictures of each concept whose gradients are taken; 0 for the preset's.
        folder: where results, base predictions and gradients are kept; None for nowhere.
        device: a torch device; None for the fastest that is there.
        known: an index of known files (:mod:`tadasu.auditing.lineage_index`); None for none.
    """

    base: Any
    bank: str
    policy: str | Policy = "kids"
    concepts: tuple[str, ...] = ()
    preset: str = "calibrated"
    strengths: tuple[float, ...] = ()
    resolution: int = 0
    gradients: int = 0
    folder: str | None = None
    device: str | None = None
    known: str | None = None


class Auditor:
    """Examines single files; holds one base in memory.

    Args:
        audit: what is audited against.
    """

    def __init__(self, audit: Audit) -> None:
        pipe = load(audit.base, device=audit.device) if isinstance(audit.base, str) else audit.base
        policy = audit.policy if isinstance(audit.policy, Policy) else Policy.load(audit.policy)
        chosen: Settings = settings(
            audit.preset, audit.strengths, audit.resolution, audit.gradients
        )
        folder = Path(audit.folder) if audit.folder else None
        self.examiner = Examiner(
            denoiser=PipelineDenoiser(pipe, side=chosen.resolution),
            bank=Bank.load(audit.bank),
            policy=policy,
            concepts=audit.concepts,
            settings=chosen,
            folder=folder,
        )
        if not self.examiner.asked:
            raise BadInput(
                f"The bank {audit.bank} has no concept of the policy {policy.name}. Add one with "
                "'tadasu concepts add NAME --images DIR --part-of CONCEPT'."
            )
        denoiser = self.examiner.denoiser
        self.base = Base.of(denoiser.tensors(), name=str(audit.base)[:200])
        self.known = Index.load(audit.known) if audit.known else None
        known = digest(Path(audit.known)) if audit.known else ""
        about = (known, denoiser.identity, self.examiner.bank.hash, policy.hash, chosen.key)
        self.results = Results(
            folder=folder / "results" if folder else None,
            about="|".join((*about, ",".join(self.examiner.asked))),
        )

    def file(self, path: Path) -> list[Finding]:
        """The findings of one file; nothing it contains stops the others."""
        return self.files((path,), str(path))

    def files(self, paths: Sequence[Path], label: str) -> list[Finding]:
        """The findings of files that are used together, each at full strength."""
        for path in paths:  # sizes and structure first: hashing reads the whole file
            problem = refused(path)
            if problem:
                return [unreadable(label, problem)]
        digests = [digest(path) for path in paths]
        kept = self.results.get(digests, label)
        if kept is not None:
            return kept
        self.examiner.prepare()
        try:
            adapters: list[Adapter] = [read(path, self.base) for path in paths]
            found = [*self._lineage(adapters, label), *self.examiner.examine(adapters, label)]
        except FAILURES as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            return [unreadable(label, reason[:1000])]
        self.results.put(digests, found)
        return found

    def _lineage(self, adapters: Sequence[Adapter], label: str) -> list[Finding]:
        """A finding for each file that is a known one, or has one in it."""
        if self.known is None:
            return []
        matches = [self.known.match(sketch(each, self.base)) for each in adapters]
        return [
            related(match, label, "+".join(a.digest for a in adapters))
            for match in matches
            if match.known
        ]


def refused(path: Path) -> str:
    """Why a file's size or structure rules it out; empty when it may be read.

    A folder (peft's) is left to the reader.
    """
    if path.is_dir() and not path.is_symlink():
        return ""
    try:
        open_file(path)
    except (TadasuError, OSError, MemoryError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def related(match: Match, label: str, digest: str) -> Finding:
    """The finding of a file that is a known one, saved again, changed or merged."""
    names = ", ".join(part.entry.name for part in match.parts)
    notes = "; ".join(dict.fromkeys(part.entry.note for part in match.parts if part.entry.note))
    says = f"It is {match.kind} of known files: {names}" + (f" ({notes})." if notes else ".")
    cosine = match.parts[0].cosine
    return Finding(
        file=label,
        digest=digest,
        concept=match.parts[0].entry.name,
        conclusion="present",
        stage="lineage",
        severity="high",
        response=response("present", "high"),
        reason=says,
        evidence=(Evidence(stage="lineage", says=says, score=cosine, unit="cosine"),),
    )


def bank_of(base: Any) -> Path:
    """The bank for a base when none is named: the bundled base's own, else the user's.

    Args:
        base: a pipeline's folder or hub id, or the pipeline itself.
    """
    place = located(base, "pipeline") if isinstance(base, str) else _loaded_from(base)
    beside = Path(place).resolve().parent / "bank"
    bundled = str(resources.files("tadasu"))
    if place and beside.is_relative_to(Path(bundled).resolve()) and (beside / INDEX).is_file():
        return beside
    return default_folder()


def _loaded_from(pipe: Any) -> str:
    """The folder or hub id that a pipeline was loaded from; empty where it was built in memory."""
    name = getattr(pipe, "name_or_path", "") or ""
    return str(name)


def unreadable(label: str, reason: str) -> Finding:
    """The finding of a file that could not be examined: it is not let through."""
    return Finding(
        file=label,
        conclusion="unreadable",
        stage="read",
        severity="high",
        response=response("unreadable", "high"),
        reason=reason,
    )


def audit(
    paths: str | Path | Sequence[str | Path],
    *,
    base: Any,
    bank: str | Path | None = None,
    policy: str | Policy = "kids",
    concepts: Sequence[str] = (),
    preset: str = "calibrated",
    strengths: Sequence[float] = (),
    resolution: int = 0,
    gradients: int = 0,
    together: bool = False,
    engine: Engine = "local",
    workers: int | None = None,
    folder: str | Path | None = None,
    known: str | Path | None = None,
    progress: Progress | None = None,
) -> Iterator[Finding]:
    """What shared files taught a model, file by file.

    Args:
        paths: files, or folders that are searched.
        base: the model the files are for: a pipeline, a folder or a hub id.
        bank: folder of the concept bank. When left out, the bundled base brings its own, and for
            any other base it is yours (``tadasu concepts add``).
        policy: whose concepts are asked about, and how severe they are.
        concepts: only these, of the bank or the policy.
        preset: ``calibrated``, or ``paia`` for the published reading.
        strengths: at which files are probed; the preset's when empty.
        resolution: edge of the reference pictures in pixels; 0 for the model's own. A large model
            on a CPU is audited in a quarter of the time at half of it.
        gradients: pictures of each concept whose gradients are taken once for a base; 0 for the
            preset's. Fewer are quicker and rank concepts less well.
        together: whether all files are used at once, and examined as one.
        engine: ``local``, or ``ray`` for a cluster.
        workers: of the engine ``ray``; None for one per GPU, else one per core.
        folder: where results are kept, to take up an audit that was stopped.
        known: an index of known files; copies and merges of them are told.
        progress: is told of every file that is done.

    Yields:
        A finding for each file and concept; one for a file that could not be examined.

    Raises:
        BadInput: no files, or a bank without a concept of the policy.
        UnknownName: no such engine, preset or concept.
        BadFile: a path, base or bank that is not there.
        MissingPart: the extra ``diffusers`` (or ``ray``) is not installed.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    listed = files([paths] if isinstance(paths, str | Path) else list(paths))
    if not listed:
        raise BadInput("No shared files were found in the given paths.")
    bank = bank or bank_of(base)
    asked = Audit(
        base=base,
        bank=str(bank),
        policy=policy,
        concepts=tuple(concepts),
        preset=preset,
        strengths=tuple(strengths),
        resolution=resolution,
        gradients=gradients,
        folder=str(folder) if folder else None,
        known=str(known) if known else None,
    )
    if together:
        label = " + ".join(str(path) for path in listed)
        answers = iter([(label, Auditor(asked).files(listed, label))])
        total = 1
    elif engine == "ray":
        from tadasu.examination import rays

        answers, total = rays.run(asked, listed, workers=workers), len(listed)
    else:
        auditor = Auditor(asked)
        answers = ((str(path), auditor.file(path)) for path in listed)
        total = len(listed)
    for done, (label, found) in enumerate(answers, 1):
        if progress is not None:
            progress(label, found, done, total)
        yield from found
