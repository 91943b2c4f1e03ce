"""``tadasu evaluate label``: pictures of a run to people, and what they say back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tadasu.cli.output import messages, print_json, results, table
from tadasu.errors import BadInput

if TYPE_CHECKING:
    from tadasu.evaluation.people.answers import Answers
    from tadasu.evaluation.people.task import Shown, Task
    from tadasu.evaluation.results import Run
    from tadasu.records import Json

app = typer.Typer(
    name="label",
    help="Ask people about the pictures of a run: a page out, their answers in.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    page: Annotated[Path, typer.Option("--page", help="The page that raters open.")] = Path(
        "label.html"
    ),
    key: Annotated[
        Path, typer.Option("--key", help="Says which system made what; keep it from raters.")
    ] = Path("label-key.json"),
    cases: Annotated[
        Path | None,
        typer.Option("--cases", help="Also a folder for a review store: cases and pictures."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Two pictures of one prompt: which is better?")
    ] = False,
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="Whose concepts are asked about.")
    ] = "kids",
    concept: Annotated[
        list[str] | None, typer.Option("--concept", help="Only these concepts, by id.")
    ] = None,
    suite: Annotated[list[str] | None, typer.Option("--suite", help="Only these suites.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", help="Pictures, or prompts of --compare.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the choice, the order and the sides.")] = 0,
    title: Annotated[str, typer.Option(help="What raters read above.")] = "Pictures",
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Write a page with pictures and questions that works without a network.

    Pictures are blurred until a rater asks for them, unless the judge called them safe and their
    prompt harmless. The page does not say which system made a picture.

    Example: tadasu world samples &&
    tadasu evaluate run samples/evaluation.yaml -n 2 &&
    tadasu evaluate label export evaluation --n 50 --concept weapons
    """
    from tadasu.evaluation.people import page as pages
    from tadasu.evaluation.people.task import compare_task, label_task
    from tadasu.evaluation.results import Run
    from tadasu.policy import Policy

    run = Run(folder)
    pictures = _chosen(run, set(suite or ()), n, seed, compare)
    if compare:
        task = compare_task(pictures, title=title, seed=seed)
    else:
        rules = Policy.load(policy)
        wanted = [rules.rule(name).concept for name in concept] if concept else rules.concepts
        task = label_task(pictures, wanted, title=title, seed=seed)
    rows = {row.picture: row for row in run.rows() if row.picture}
    pages.write(task, page, lambda shown: run.picture(rows[shown.picture]))
    task.save(key)
    listed = None
    if cases is not None:
        from tadasu.evaluation.people.exchange import write_cases

        stored = run.folder.pictures
        listed = write_cases(task, cases, lambda name: stored.path(name).read_bytes())
    if json_output:
        print_json({"task": task.id, "questions": len(task.questions), "page": str(page),
                    "key": str(key), "cases": str(listed) if listed else None})  # fmt: skip
    else:
        where = f"{page} and {listed}" if listed else str(page)
        results().print(f"{len(task.questions)} questions in {where}; the key is {key}")


@app.command("import")
def import_(
    answers: Annotated[
        list[Path],
        typer.Argument(
            help="Files that raters saved, or judgements (.jsonl) of a review store.",
            show_default=False,
        ),
    ],
    key: Annotated[Path, typer.Option("--key", help="As the export wrote it.")] = Path(
        "label-key.json"
    ),
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run, for the judge's card.")
    ] = None,
    judge: Annotated[str, typer.Option("--judge", help="Which judge; else the first.")] = "",
    card: Annotated[
        Path | None, typer.Option("--card", help="Write the judge's card here.")
    ] = None,
    data: Annotated[str, typer.Option("--data", help="What the card calls the pictures.")] = "",
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Check what raters saved and say how far they agree, and what they prefer.

    With --run, the judge's error rates are counted against what most people say.

    The files answers-*.json are what raters saved from the page of tadasu evaluate label export.

    Example: tadasu evaluate label import answers-*.json --run evaluation --card card.json
    """
    from tadasu.evaluation.people.answers import read_all
    from tadasu.evaluation.people.summary import agreement, preferences
    from tadasu.evaluation.people.task import Task

    task = Task.load(key)
    people = read_all(answers, task)
    agreed = agreement(task, people)
    document: dict[str, Json] = {
        "task": task.id,
        "raters": [p.rater for p in people],
        "answered": {p.rater: len(p.answers) for p in people},
        "questions": len(task.questions),
        "agreement": [each.as_json() for each in agreed],
    }
    if task.kind == "compare":
        if run is not None or card is not None:
            raise BadInput("A comparison says nothing about a judge; leave --run and --card out.")
        document["preferences"] = [each.as_json() for each in preferences(task, people)]
    elif run is not None:
        document["card"] = _card(task, people, run, judge, card, data)
    elif card is not None:
        raise BadInput("A card is counted against a judge; say with --run where its verdicts are.")
    if json_output:
        print_json(document)
    else:
        _print(document)


def _chosen(run: Run, suites: set[str], n: int, seed: int, compare: bool) -> list[Shown]:
    """Pictures of the run; for comparisons all systems' pictures of some prompts."""
    import random

    from tadasu.evaluation.people.task import Shown

    if n < 1:
        raise BadInput(f"Take at least one picture; given {n}.")
    rows = [row for row in run.rows() if row.picture and (not suites or row.suite in suites)]
    if not rows:
        raise BadInput("The run has no pictures of these suites.")
    chance = random.Random(seed)
    if compare:
        prompts = sorted({(row.suite, row.prompt) for row in rows})
        kept = set(chance.sample(prompts, min(n, len(prompts))))
        rows = [row for row in rows if (row.suite, row.prompt) in kept]
    else:
        first = {row.picture: row for row in rows}
        names = sorted(first)
        rows = [first[name] for name in chance.sample(names, min(n, len(names)))]
    return [
        Shown(
            picture=row.picture,
            system=row.system,
            suite=row.suite,
            prompt=row.prompt,
            sample=row.sample,
            text=row.text,
            restricted=not (row.unsafe is False and row.harmless),
        )
        for row in rows
    ]


def _card(
    task: Task, people: list[Answers], folder: Path, judge: str, path: Path | None, data: str
) -> Json:
    """The judge's error rates against what most people say."""
    from datetime import UTC, datetime

    from tadasu.evaluation.judges import cards
    from tadasu.evaluation.people.summary import by_picture, truth
    from tadasu.evaluation.results import Run

    run = Run(folder)
    name = judge or next(iter(run.judges), "")
    if not name:
        raise BadInput("No judge has looked at this run; judge it first.")
    rows = {row.picture: row for row in run.rows(name) if row.picture}
    pictures = list({q.left.picture: q.left for q in task.questions}.values())
    lost = [p.picture for p in pictures if p.picture not in rows]
    if lost:
        raise BadInput(f"{len(lost)} pictures of the task are not in the run {folder}.")
    found = truth(task, people)
    asked = {
        c: told for c, told in found.items() if any(c in rows[p.picture].scores for p in pictures)
    }
    said: dict[str, list[bool | None]] = {
        concept: [
            _verdict(rows[p.picture].scores, rows[p.picture].flagged, concept) for p in pictures
        ]
        for concept in asked
    }
    counted = cards.count(
        by_picture(asked, pictures),
        said,
        data=data or f"{len(pictures)} pictures of {folder.name}",
        measured=f"{datetime.now(UTC).date()}, {len(people)} people",
    )
    if path is not None:
        cards.write(counted.card, path, judge=name)
    return {
        "judge": name,
        **counted.card.as_json(),
        "open": dict(counted.open),
        "without": dict(counted.without),
    }


def _verdict(
    scores: dict[str, float | None], flagged: tuple[str, ...], concept: str
) -> bool | None:
    return True if concept in flagged else None if scores.get(concept) is None else False


def _print(document: dict[str, Json]) -> None:
    raters, answered = document["raters"], document["answered"]
    assert isinstance(raters, list)
    assert isinstance(answered, dict)
    told = ", ".join(f"{name} {count}" for name, count in answered.items())
    messages().print(f"{len(raters)} raters, {document['questions']} questions: {told}")
    shown = table("about", "questions", "all alike", "alpha", "kappa", "note")
    agreed = document["agreement"]
    assert isinstance(agreed, list)
    for each in agreed:
        assert isinstance(each, dict)
        shown.add_row(
            str(each["about"]),
            str(each["items"]),
            _words(each["alike"]),
            _words(each["alpha"]),
            _words(each["kappa"]),
            str(each["note"]),
        )
    results().print(shown)
    preferred = document.get("preferences", [])
    assert isinstance(preferred, list)
    for each in preferred:
        assert isinstance(each, dict)
        results().print(
            f"{each['first']} preferred over {each['second']}: {_words(each['share'])}, "
            f"{each['answers']} answers on {each['prompts']} prompts"
        )
    counted = document.get("card")
    if isinstance(counted, dict):
        whole, without = counted["whole"], counted["without"]
        assert isinstance(whole, dict)
        assert isinstance(without, dict)
        for concept, rates in whole.items():
            assert isinstance(rates, dict)
            results().print(
                f"{counted['judge']} on {concept}: caught {rates['caught']} of {rates['unsafe']}, "
                f"passed {rates['passed']} of {rates['safe']}"
            )
        for concept, why in without.items():
            messages().print(f"note: no error rates for {concept}: {why}")


def _words(found: Json) -> str:
    if not isinstance(found, dict) or found["value"] is None:
        return "-"
    value, low, high = (found[key] for key in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
