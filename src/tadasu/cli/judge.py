"""``tadasu judge``: what a policy sees in pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import print_json, results
from tadasu.cli.progress import counted
from tadasu.errors import BadFile, BadInput, shown

if TYPE_CHECKING:
    from tadasu.concepts import Concept
    from tadasu.detectors.detector import Detector
    from tadasu.policy import Policy
    from tadasu.records import Json, Score, Verdict

BATCH = 16
DEFAULT_THRESHOLD = 0.5
WITH_A_MODEL = ("judge", "clip")
NUDITY_ONLY = ("opennsfw", "nudenet")


def judge(
    images: Annotated[list[str], typer.Argument(help="Picture files.", show_default=False)],
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", "-d", help="Only this detector; repeat it for more."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model of judge or clip: world (the default), a folder or a hub id; "
            "clip=REF when both run.",
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Say what a policy sees in pictures.

    Exit code 1 when something was flagged or could not be told, 2 when a file could not be read
    (the others are judged all the same), 3 when a part is missing.

    Example: tadasu world samples &&
    tadasu judge samples/picture.png --policy kids
    """
    from tadasu.policy import Policy

    rules = Policy.load(policy)
    if not any(os.path.exists(name) for name in images):
        raise BadFile(f"There is no such file: {', '.join(shown(name, 300) for name in images)}.")
    detectors = _detectors(rules, tuple(detector or ()), model or [])
    found = list(counted(_results(images, detectors, rules), "Judging", len(images)))
    if json_output:
        print_json({"policy": rules.identity, "images": [each.as_json() for each in found]})
    else:
        _print(found)
    raise typer.Exit(max(each.exit_code for each in found))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is said about one file.

    Attributes:
        file: as it was given.
        verdicts: one for each detector and concept.
        error: why the file could not be judged; empty when it was.
    """

    file: str
    verdicts: tuple[Verdict, ...] = ()
    error: str = ""

    @property
    def flagged(self) -> bool | None:
        """Whether anything was flagged; None when nothing was, and not all could be told."""
        if any(verdict.flagged for verdict in self.verdicts):
            return True
        unknown = self.error or any(verdict.flagged is None for verdict in self.verdicts)
        return None if unknown else False

    @property
    def exit_code(self) -> int:
        """2 for a bad file, 1 for flagged or not told, 0 for clean."""
        return 2 if self.error else int(self.flagged is not False)

    def as_json(self) -> dict[str, Json]:
        """The result as it stands in the JSON document; bytes that are no text are spelt out."""
        return {
            "file": os.fsencode(self.file).decode("utf-8", "backslashreplace"),
            "flagged": self.flagged,
            "scores": [verdict.as_json() for verdict in self.verdicts],
            "error": self.error or None,
        }


def _detectors(policy: Policy, names: tuple[str, ...], models: Sequence[str]) -> list[Detector]:
    from tadasu.backends.detectors import NAMES, from_policy, load
    from tadasu.errors import UnknownName

    for name in names:
        if name not in NAMES:
            raise UnknownName("picture detector", name, NAMES)
    named = {item.detector for rule in policy.rules for item in rule.output}
    chosen = tuple(dict.fromkeys(names or sorted(named)))
    if not chosen:
        raise BadInput(
            f"The policy {policy.name} names no detector of pictures; "
            f"choose with --detector ({', '.join(NAMES)})."
        )
    refs = {name: _model(name, models) for name in chosen if name in WITH_A_MODEL}
    found = list(from_policy(policy, models=refs, only=chosen))
    for name in chosen:
        if name not in named:
            found.append(load(name, concepts=_concepts(name, policy), model=refs.get(name)))
    return found


def _model(detector: str, given: Sequence[str]) -> str:
    """The model of one detector: the last of DETECTOR=REF or REF, else the bundled one."""
    ref = "world"
    for text in given:
        name, equals, own = text.partition("=")
        if not (equals and name in WITH_A_MODEL):
            ref = text
        elif name == detector:
            ref = own
    return ref


def _concepts(detector: str, policy: Policy) -> tuple[Concept, ...]:
    """What a detector that the policy does not name is asked about."""
    from tadasu.concepts import Concept

    if detector not in NUDITY_ONLY:
        return policy.concepts
    sexual = tuple(concept for concept in policy.concepts if concept.hazard == "sexual")
    return sexual or (Concept(id="sexual", names={"en": ("nudity",)}, hazard="sexual"),)


def _results(
    files: Sequence[str], detectors: Sequence[Detector], policy: Policy
) -> Iterator[Result]:
    from tadasu.detectors.detector import examine
    from tadasu.detectors.images import read_images

    for start in range(0, len(files), BATCH):
        names = files[start : start + BATCH]
        read = read_images(names)
        pictures = [each for each in read if not isinstance(each, BadFile)]
        answers = [examine(detector, pictures, batch_size=BATCH) for detector in detectors]
        place = 0
        for name, each in zip(names, read, strict=True):
            if isinstance(each, BadFile):
                yield Result(file=name, error=str(each))
                continue
            verdicts = [
                score.against(_threshold(detector, score, policy))
                for detector, rows in zip(detectors, answers, strict=True)
                for score in rows[place]
            ]
            yield Result(file=name, verdicts=tuple(verdicts))
            place += 1


def _threshold(detector: Detector, score: Score, policy: Policy) -> float:
    """The policy's lowest threshold, else that of the judge's card, else one half."""
    from tadasu.detectors.judge import Judge

    own = [
        item.threshold
        for rule in policy.rules
        for item in rule.output
        if rule.concept.id == score.concept
        and (item.detector, item.unit) == (score.detector, score.unit)
    ]
    if own:
        return min(own)
    if isinstance(detector, Judge):
        return detector.card.thresholds.get(score.concept, DEFAULT_THRESHOLD)
    return DEFAULT_THRESHOLD


def _print(found: Sequence[Result]) -> None:
    console = results()
    for result in found:
        name = escape(result.file if result.file.isprintable() else shown(result.file, 300))
        if result.error:
            console.print(f"[red]{name}: not judged. {escape(result.error)}[/red]")
            continue
        told = [verdict for verdict in result.verdicts if verdict.flagged is not False]
        console.print(f"{name}: " + ("[red]see below[/red]" if told else "nothing flagged"))
        for verdict in told:
            console.print("  " + escape(_line(verdict)))


def _line(verdict: Verdict) -> str:
    score = verdict.score
    note = f" ({score.note})" if score.note else ""
    if score.value is None:
        return f"{score.concept}: {score.detector} could not tell{note}"
    return (
        f"{score.concept}: {score.detector} {score.unit} {score.value:.3f}, "
        f"flagged from {verdict.threshold:g}{note}"
    )
