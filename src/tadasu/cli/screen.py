"""``tadasu screen``: what a policy sees in texts."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import messages, print_json, results, table
from tadasu.errors import BadInput

if TYPE_CHECKING:
    from tadasu.policy import Policy
    from tadasu.screen import PromptScreen, Screening


class EmbedderChoice(StrEnum):
    """Which sentence embedder looks for meaning."""

    AUTO = "auto"
    MINILM = "minilm"
    NONE = "none"


class FailOn(StrEnum):
    """Which action makes the exit code 1."""

    BLOCK = "block"
    FLAG = "flag"
    NEVER = "never"


FAILS = {FailOn.BLOCK: ("block",), FailOn.FLAG: ("flag", "block"), FailOn.NEVER: ()}


def screen(
    texts: Annotated[list[str], typer.Argument(help="Prompts.", show_default=False)],
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A bundled policy or a file.")
    ] = "kids",
    embedder: Annotated[
        EmbedderChoice,
        typer.Option(
            help="Looks for meaning besides names: minilm needs the extra of that name, auto "
            "takes it where it is installed and the policy has thresholds for it."
        ),
    ] = EmbedderChoice.AUTO,
    fail_on: Annotated[
        FailOn, typer.Option(help="The mildest action that makes the exit code 1.")
    ] = FailOn.BLOCK,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Say what a policy sees in texts.

    Exit code 1 when a text is blocked; with --fail-on flag also when one is flagged, with --fail-on
    never never.

    Example: tadasu screen "a cat next to a p.i.s.t.o.l" --policy kids
    """
    from tadasu.policy import Policy
    from tadasu.screen import check_prompt

    rules = Policy.load(policy)
    for number, text in enumerate(texts, start=1):
        try:
            check_prompt(text)
        except BadInput as error:
            raise BadInput(f"Text {number} of {len(texts)}: {error}") from error
    found = _screen(embedder, rules).many(texts)
    if json_output:
        print_json({"policy": rules.identity, "texts": [each.as_json() for each in found]})
    else:
        _print(found)
    if any(each.action in FAILS[fail_on] for each in found):
        raise typer.Exit(1)


def _screen(choice: EmbedderChoice, policy: Policy) -> PromptScreen:
    from tadasu.backends.transformers.sentences import minilm
    from tadasu.screen import PromptScreen

    if choice is EmbedderChoice.NONE:
        return PromptScreen(policy, because="none was wanted")
    with messages().status("Loading the prompt screen"):
        if choice is EmbedderChoice.MINILM:
            return PromptScreen(policy, minilm())
        return PromptScreen.of(policy)


def _print(found: list[Screening]) -> None:
    colours = {"allow": "green", "flag": "yellow", "block": "red"}
    for each in found:
        colour = colours[each.action]
        results().print(f"[{colour}]{each.action}[/{colour}]  {escape(each.text)}")
        if each.hits:
            shown = table("  rule", "concept", "at", "text", "because", "score")
            for hit in each.hits:
                shown.add_row(
                    f"  {hit.rule}",
                    hit.concept,
                    f"{hit.start}-{hit.end}",
                    escape(hit.text),
                    escape(hit.because),
                    f"{hit.score.value:.2f} {hit.score.unit}",
                )
            results().print(shown)
    for note in dict.fromkeys(note for each in found for note in each.notes):
        messages().print(f"note: {note}")
