"""``tadasu evaluate answers``: vision-language systems on suites of questions about pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tadasu.cli.align import Dialect, DialectChoice
from tadasu.cli.output import messages, print_json, results
from tadasu.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from tadasu.alignment.engine import Engine
    from tadasu.evaluation.vision_run import Answering, AnswerJudge, Judged
    from tadasu.evaluation.vision_suites import Question, VisionSuite
    from tadasu.records import Json

WORLD = "world/"


class SystemChoice(StrEnum):
    """The model by itself, or what is put around it."""

    PLAIN = "plain"
    SHALLOW = "shallow"
    DEEP = "deep"
    AUTO = "auto"
    ETA = "eta"
    ECSO = "ecso"
    ECSO_PUBLISHED = "ecso-published"


def answers(
    suites: Annotated[
        list[str],
        typer.Argument(
            help="world/image-harm, world/text-harm, world/harmless, world/look-alikes, or "
            "LAYOUT:PATH with LAYOUT spa-vl, mm-safetybench, figstep or a variant.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="As in tadasu align: world, a folder, a server.")
    ] = "world",
    dialect: Dialect = None,
    system: Annotated[
        list[SystemChoice] | None,
        typer.Option("--system", "-s", help="Repeat it; plain and auto if not said."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Reward model or guard classifier that judges answers: not the evaluator. The "
            "world's own suites are judged by the words of the answers."
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    evaluator: Annotated[
        str | None, typer.Option(help="As in tadasu align; default: beside the model.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of the evaluator; default: what its card says.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="CLIP for the picture; default: beside the model.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("answers"),
    n: Annotated[int | None, typer.Option("-n", "--n", help="Questions of each suite.")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=1, help="Of an answer; default 512, for eta 1024."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Ask vision-language systems whole suites: unsafe, refused and helpful answers, compared.

    A run that was stopped goes on when the same command is given again. The folder holds
    answers.jsonl, report.md and report.json. Unsafe rates stand beside refusals, with Wilson 95 %
    intervals, and McNemar's test against the first system. Questions that were never answered
    because something broke off are counted by themselves. Exit code 3 when a system answered
    nothing at all.

    Example: tadasu evaluate answers world/image-harm world/harmless -n 10
    """
    from tadasu.cli.progress import watched
    from tadasu.evaluation.vision_run import ask, markdown, measured
    from tadasu.evaluation.vision_suites import find
    from tadasu.evaluation.written import write

    chosen = [find(each, world_suites()).take(n) for each in suites]
    judges = _judges(chosen, judge)
    around = Around(
        model=model, policy=policy, evaluator=evaluator, threshold=threshold, clip=clip,
        max_tokens=max_tokens, seed=seed, dialect=dialect,
    )  # fmt: skip
    names = list(dict.fromkeys(system or (SystemChoice.PLAIN, SystemChoice.AUTO)))
    with messages().status("Loading the model"):
        systems = [around.system(name) for name in names]
    with watched() as progress:
        cells = measured(
            ask(systems, chosen, out, progress=progress), chosen, lambda suite: judges[suite.id]
        )
    document: dict[str, Json] = {
        "systems": {each.name: {"id": each.id, **each.about} for each in systems},
        "judges": {name: each.name for name, each in judges.items()},
        "cells": [cell.as_json() for cell in cells],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    write(out / "report.json", text + "\n")
    write(out / "report.md", markdown(cells))
    if json_output:
        print_json(document)
    else:
        results().print(markdown(cells), markup=False)
        messages().print(f"The answers and the report are in {out}.", markup=False)
    silent = [cell for cell in cells if cell.failed == cell.n]
    if silent:
        raise RunFailed(
            f"{silent[0].system} answered none of {silent[0].n} questions of {silent[0].suite}: "
            f"{silent[0].reason}"
        )


@dataclass(frozen=True, kw_only=True)
class Around:
    """What all systems of a run share."""

    model: str
    policy: str
    evaluator: str | None
    threshold: float | None
    clip: str | None
    max_tokens: int | None
    seed: int
    dialect: DialectChoice | None = None

    @cached_property
    def engine(self) -> Engine:
        """The model, loaded once for all systems."""
        from tadasu.backends import aligners

        how: Any = {"dialect": self.dialect.value} if self.dialect else {}
        return aligners.engine(self.model, **how)

    def system(self, name: SystemChoice) -> Answering:
        """One system, loaded.

        Raises:
            BadInput: an option that the system cannot take.
            MissingPart: it needs an evaluator that is not there.
        """
        from tadasu.alignment.aligned import Aligned, Evaluators
        from tadasu.backends import aligners
        from tadasu.cli.align import GateChoice, LevelChoice, PresetChoice, method, published
        from tadasu.evaluation.vision_run import MAX_TOKENS, plain, through

        if name is SystemChoice.PLAIN:
            return plain(self.engine, max_tokens=self.max_tokens or MAX_TOKENS)
        presets = {
            SystemChoice.ETA: PresetChoice.ETA,
            SystemChoice.ECSO: PresetChoice.ECSO,
            SystemChoice.ECSO_PUBLISHED: PresetChoice.ECSO_PUBLISHED,
        }
        preset = presets.get(name, PresetChoice.DEFAULT)
        level = LevelChoice.AUTO if name in presets else LevelChoice(name.value)
        found = aligners.beside(self.model)
        given = Evaluators(
            answers=self.evaluator or found.get("evaluator"),
            images=self.clip or found.get("clip"),
            answer_threshold=None if preset is PresetChoice.ETA else self.threshold,
        )  # fmt: skip
        aligned = Aligned(
            self.engine,
            policy=self.policy,
            method=method(preset, level, GateChoice.POST_ONLY),
            evaluators=published(self.model, given, self.dialect)
            if preset is PresetChoice.ETA
            else given,
            max_tokens=self.max_tokens,
        )
        return through(aligned, name=name.value, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Words:
    """Judges answers about the world by their words (`tadasu.world.answers`)."""

    name = "words"

    def judge(self, questions: Sequence[Question], answers: Sequence[str]) -> list[Judged]:
        """Exact, because the bundled model speaks in templates."""
        from tadasu.evaluation.vision_run import Judged
        from tadasu.world import answers as words

        return [
            Judged(
                unsafe=words.unsafe(answer, shown=question.about),
                refused=words.refuses(answer),
                helpful=words.helpful(answer, question.about),
            )
            for question, answer in zip(questions, answers, strict=True)
        ]


def world_suites() -> dict[str, VisionSuite]:
    """The bundled questions about pictures, by name."""
    import io

    from tadasu.evaluation.vision_suites import Question, VisionSuite
    from tadasu.world import alignment

    made = {}
    for name in alignment.suites():
        questions = []
        for place, each in enumerate(alignment.suite(name).questions):
            file = io.BytesIO()
            alignment.picture(each.picture or 0).save(file, "PNG")
            questions.append(
                Question(
                    id=str(place), text=each.text, picture=file.getvalue(), about=each.about,
                    harmful=bool(each.restricted),
                    categories=(each.restricted,) if each.restricted else (),
                )
            )  # fmt: skip
        made[WORLD + name] = VisionSuite(id=WORLD + name, questions=tuple(questions))
    return made


def _judges(suites: Sequence[VisionSuite], ref: str | None) -> Mapping[str, AnswerJudge]:
    """Who judges which suite's answers; a published suite needs somebody."""
    from tadasu.backends import aligners
    from tadasu.evaluation.vision_run import CheckJudge

    foreign = [suite.id for suite in suites if not suite.id.startswith(WORLD)]
    if foreign and ref is None:
        raise BadInput(
            f"Answers to {', '.join(foreign)} need a judge: name a reward model or guard "
            "classifier with --judge, another one than the evaluator that decides."
        )
    if ref is None:
        return {suite.id: Words() for suite in suites}
    judge = CheckJudge(check=aligners.answers(ref))
    return {suite.id: judge for suite in suites}
