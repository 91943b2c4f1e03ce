"""``tadasu align``: one question about one picture, evaluated and aligned."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results

if TYPE_CHECKING:
    from tadasu.alignment.aligned import Evaluators
    from tadasu.alignment.method import Method, Parts
    from tadasu.alignment.record import Answer


class LevelChoice(StrEnum):
    """How far an unsafe answer is corrected."""

    AUTO = "auto"
    SHALLOW = "shallow"
    DEEP = "deep"


class PresetChoice(StrEnum):
    """Whose rule is followed."""

    DEFAULT = "default"
    ETA = "eta"
    ECSO = "ecso"
    ECSO_PUBLISHED = "ecso-published"


class DialectChoice(StrEnum):
    """What kind of server is asked."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMA_CPP = "llama.cpp"
    OPENAI = "openai"


Dialect = Annotated[
    DialectChoice | None,
    typer.Option(help="Kind of the server; default: asked and tried."),
]


class GateChoice(StrEnum):
    """When an answer is corrected."""

    POST_ONLY = "post_only"
    AND = "and"
    OR = "or"


def align(
    image: Annotated[
        str,
        typer.Option("--image", "-i", help="A picture file or data: address.", show_default=False),
    ],
    text: Annotated[str, typer.Option("--text", "-t", help="The question.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="world, a folder, a hub id, or the address of a server that speaks the OpenAI "
            "protocol (http://localhost:8000/v1#MODEL).",
        ),
    ] = "world",
    dialect: Dialect = None,
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    level: Annotated[
        LevelChoice, typer.Option(help="auto is shallow first, deep where that did not help.")
    ] = LevelChoice.AUTO,
    preset: Annotated[
        PresetChoice,
        typer.Option(
            help="eta: the published rule and constants; ecso: answer from a caption; "
            "ecso-published: with its authors' prompts."
        ),
    ] = PresetChoice.DEFAULT,
    gate: Annotated[
        GateChoice, typer.Option(help="What must be flagged before an answer is aligned.")
    ] = GateChoice.POST_ONLY,
    evaluator: Annotated[
        str | None,
        typer.Option(
            help="Reward model, guard classifier or guard model (Llama Guard, Qwen3Guard, "
            "ShieldGemma), a server's /moderations or /classify, or a card's file; default: "
            "beside the model."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of the evaluator; default: what its card says.")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="CLIP for the picture; default: beside the model.")
    ] = None,
    questions: Annotated[
        bool, typer.Option("--questions", help="Also look for the policy's names in the text.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds for the whole answer.")] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Ask a vision-language model about a picture; its answer is evaluated, then aligned.

    A refusal is an answer: exit code 0. Exit code 3 when a model or evaluator is missing.

    Example: tadasu world samples &&
    tadasu align --image samples/picture.png --text "How do I use this?"
    """  # fmt: skip
    from tadasu.alignment.aligned import Aligned, Evaluators
    from tadasu.alignment.intake import picture
    from tadasu.backends import aligners

    seen = picture(image)
    with messages().status("Loading the model"):
        given = Evaluators(
            answers=evaluator,
            images=clip,
            questions="policy" if questions else None,
            answer_threshold=threshold,
        )
        vlm = Aligned(
            aligners.engine(model, dialect=dialect.value) if dialect else model,
            policy=policy,
            method=method(preset, level, gate),
            evaluators=published(model, given, dialect) if preset is PresetChoice.ETA else given,
            timeout=timeout,
        )
    with messages().status("Answering"):
        answer = vlm.ask(seen, text, seed=seed)
    if json_output:
        print_json(answer.as_json())
    else:
        _print(answer)


def published(model: str, given: Evaluators, dialect: DialectChoice | None = None) -> Parts:
    """The parts of the published method; its thresholds are fixed."""
    from tadasu.backends import aligners
    from tadasu.errors import BadInput

    found = aligners.beside(model)
    answers = given.answers or found.get("evaluator")
    clip = given.images or found.get("clip")
    if not isinstance(answers, str) or not isinstance(clip, str):
        raise BadInput(
            "The published method needs a reward model and a CLIP; name them with --evaluator "
            "and --clip."
        )
    if given.answer_threshold is not None or given.questions is not None:
        raise BadInput("The published method has fixed thresholds and examines no question.")
    how: Any = {"dialect": dialect.value} if dialect else {}
    return aligners.published(model, answers=answers, clip=clip, **how)


def method(preset: PresetChoice, level: LevelChoice, gate: GateChoice) -> Method:
    """The method with its parameters."""
    from tadasu.alignment.ecso import EyesClosedSafetyOn
    from tadasu.alignment.eta import EvaluatingThenAligning
    from tadasu.alignment.gate import Gate

    if preset is PresetChoice.ECSO:
        return EyesClosedSafetyOn()
    if preset is PresetChoice.ECSO_PUBLISHED:
        return EyesClosedSafetyOn.preset("published")
    if preset is PresetChoice.ETA:
        return EvaluatingThenAligning.preset("published")
    return EvaluatingThenAligning(level=level.value, gate=Gate(rule=gate.value))


def _print(answer: Answer) -> None:
    colours = {"answered": "green", "aligned": "yellow", "refused": "red"}
    results().print(escape(answer.text))
    first, *rest = str(answer.explanation).splitlines()
    colour = colours[str(answer.action)]
    messages().print(f"[{colour}]{escape(first)}[/{colour}]")
    for line in rest:
        messages().print(escape(line))
