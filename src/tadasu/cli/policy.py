"""``tadasu policy``: list, show and check policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tadasu.cli.output import print_json, results, table

if TYPE_CHECKING:
    from tadasu.policy import Policy

app = typer.Typer(
    help="List, show and check policies.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("list")
def list_policies(json_output: JsonOption = False) -> None:
    """List the bundled policies.

    Example: tadasu policy list
    """
    from tadasu.policy import Policy, bundled

    found = [Policy.load(name) for name in bundled()]
    if json_output:
        print_json(
            {
                "policies": [
                    {
                        **each.identity,
                        "description": each.description,
                        "concepts": [concept.id for concept in each.concepts],
                    }
                    for each in found
                ]
            }
        )
        return
    shown = table("policy", "version", "concepts", "what it is")
    for each in found:
        shown.add_row(each.name, each.version, str(len(each.rules)), each.description)
    results().print(shown)


@app.command("show")
def show(
    policy: Annotated[str, typer.Argument(help="A bundled policy or a file.")],
    json_output: JsonOption = False,
) -> None:
    """Show what a policy says, with its defaults written out.

    Example: tadasu policy show kids
    """
    from tadasu.policy import Policy

    found = Policy.load(policy)
    if json_output:
        print_json({**found.as_json(), "hash": found.hash})
    else:
        _print(found)


@app.command("check")
def check(
    file: Annotated[str, typer.Argument(help="A policy file, or a bundled policy.")],
    json_output: JsonOption = False,
) -> None:
    """Check that a file is a policy and that the methods it names exist.

    Exit code 2, with file, line and column, when it is not.

    Example: tadasu policy check kids
    """
    from tadasu.policy import Policy

    found = Policy.load(file)
    _check_methods(found)
    if json_output:
        print_json({"valid": True, **found.identity, "concepts": len(found.rules)})
    else:
        results().print(
            f"[green]valid[/green]  {found.name} {found.version}, {len(found.rules)} concepts\n"
            f"{found.hash}"
        )


def _check_methods(policy: Policy) -> None:
    from tadasu.cli.methods import listed
    from tadasu.errors import BadInput, UnknownName

    known = listed()
    for rule in policy.rules:
        named = [("detector", item.detector, known["detectors"]) for item in rule.output]
        if rule.sampling:
            named.append(("guidance", rule.sampling.guidance, known["guidance"]))
        for kind, name, names in named:
            if name not in names:
                raise BadInput(f"Concept {rule.concept.id}: {UnknownName(kind, name, names)}")


def _print(policy: Policy) -> None:
    results().print(
        f"[bold]{policy.name}[/bold] {policy.version}  {escape(policy.description)}\n"
        f"{policy.hash}\nregenerate at most {policy.attempts} times, then {policy.then}\n"
    )
    shown = table("concept", "hazard", "severity", "prompt", "sampling", "output", "names")
    for rule in policy.rules:
        sampling = rule.sampling
        steering = f"{sampling.guidance} {sampling.strength or ''}".strip() if sampling else "-"
        output = ", ".join(
            f"{item.detector} {item.threshold:g} {item.action}" for item in rule.output
        )
        concept = rule.concept
        shown.add_row(
            concept.id,
            concept.hazard,
            concept.severity,
            rule.prompt,
            steering,
            output or "-",
            str(sum(map(len, concept.names.values()))),
        )
    results().print(shown)
