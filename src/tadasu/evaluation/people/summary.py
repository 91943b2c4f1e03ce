"""What people said, taken together: agreement, truth, judge cards and preferences."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadasu.errors import BadInput
from tadasu.evaluation.people.answers import Answers
from tadasu.evaluation.people.task import Question, Shown, Task
from tadasu.records import Json
from tadasu.statistics.agreement import fleiss_kappa, krippendorff_alpha
from tadasu.statistics.bootstrap import cluster_bootstrap, draw_counts
from tadasu.statistics.bradley_terry import bradley_terry
from tadasu.statistics.intervals import Interval, clopper_pearson

_WON = {"left": 1.0, "right": 0.0, "tie": 0.5}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far people agree about one thing.

    Attributes:
        about: id of the concept, or ``preference``.
        items: questions with two answers or more.
        raters: people who answered any of them.
        alike: share of these questions on which all answers are the same, Clopper-Pearson.
        alpha: Krippendorff's, nominal; None where it is not defined.
        kappa: Fleiss'; None where not everybody answered everything, or it is not defined.
        note: why something is missing.
    """

    about: str
    items: int
    raters: int
    alike: Interval
    alpha: Interval | None
    kappa: Interval | None
    note: str = ""

    def as_json(self) -> dict[str, Json]:
        """For ``--json``."""
        return {
            "about": self.about,
            "items": self.items,
            "raters": self.raters,
            "alike": limits(self.alike),
            "alpha": limits(self.alpha),
            "kappa": limits(self.kappa),
            "note": self.note,
        }


def agreement(task: Task, people: Sequence[Answers]) -> list[Agreement]:
    """Agreement on every concept of a label task, or on the preferences of a comparison.

    "Cannot tell" is an answer like the others: two people of whom one cannot tell do not agree.
    """
    groups: dict[str, list[Question]] = {}
    for question in task.questions:
        groups.setdefault(question.concept or "preference", []).append(question)
    return [_agreed(about, asked, people, task.answers) for about, asked in groups.items()]


def truth(task: Task, people: Sequence[Answers]) -> dict[str, dict[str, bool | None]]:
    """What most people say: by concept, picture to yes or no.

    None where as many say yes as no, where most cannot tell, or where nobody answered.

    Raises:
        BadInput: the task compares.
    """
    if task.kind != "label":
        raise BadInput("Only a label task says what pictures show.")
    found: dict[str, dict[str, bool | None]] = {}
    for question in task.questions:
        given = Counter(p.answers[question.id] for p in people if question.id in p.answers)
        yes, no = given["yes"], given["no"]
        told = yes != no and yes + no > given["unsure"]
        found.setdefault(question.concept, {})[question.left.picture] = yes > no if told else None
    return found


@dataclass(frozen=True, kw_only=True)
class Preference:
    """How often one system was preferred over another.

    Attributes:
        first: name of the one.
        second: name of the other.
        share: of the answers that prefer the first, ties as halves; prompts were drawn again.
        answers: how many there are.
        prompts: of how many prompts.
        note: how the interval was made, where it was not by drawing prompts.
    """

    first: str
    second: str
    share: Interval
    answers: int
    prompts: int
    note: str = ""

    def as_json(self) -> dict[str, Json]:
        """For ``--json``."""
        return {
            "first": self.first,
            "second": self.second,
            "share": limits(self.share),
            "answers": self.answers,
            "prompts": self.prompts,
            "note": self.note,
        }


def preferences(task: Task, people: Sequence[Answers]) -> list[Preference]:
    """Every two systems against each other.

    Raises:
        BadInput: the task labels, or nobody answered anything.
    """
    rows = _compared(task, people)
    found = []
    for one, two in itertools.combinations(sorted({n for r in rows for n in r[:2]}), 2):
        met = [row for row in rows if {one, two} == set(row[:2])]
        values = [(row[3] if row[0] == one else 1 - row[3], row[2]) for row in met]
        if not values:
            continue
        won, prompts = zip(*values, strict=True)
        share, note = _share(list(won), list(prompts))
        found.append(
            Preference(
                first=one,
                second=two,
                share=share,
                answers=len(won),
                prompts=len(set(prompts)),
                note=note,
            )
        )
    return found


def strengths(
    task: Task, people: Sequence[Answers], *, draws: int = 500, seed: int = 0
) -> dict[str, Interval]:
    """Bradley-Terry strengths of all systems, as logarithms of odds with mean 0.

    Limits are percentiles over draws of prompts; draws without a finite answer are left out.

    Raises:
        BadInput: as `preferences`; no finite strengths fit; or too few draws have an answer.
    """
    rows = _compared(task, people)
    names, prompts = sorted({n for r in rows for n in r[:2]}), sorted({r[2] for r in rows})
    wins = np.zeros((len(prompts), len(names), len(names)))
    for first, second, prompt, won in rows:
        i, j, k = names.index(first), names.index(second), prompts.index(prompt)
        wins[k, i, j] += won
        wins[k, j, i] += 1 - won
    best = bradley_terry(wins.sum(0))
    drawn = []
    for block in draw_counts(len(prompts), draws, seed):
        for counts in block:
            try:
                drawn.append(bradley_terry(np.tensordot(counts, wins, axes=1)))
            except BadInput:  # in this draw somebody always won
                continue
    if len(drawn) < 0.9 * draws:
        raise BadInput("In many draws of prompts some system always won; judge more prompts.")
    low, high = np.quantile(np.stack(drawn), [0.025, 0.975], axis=0)
    return {
        name: Interval(
            estimate=float(best[i]),
            low=min(float(low[i]), float(best[i])),
            high=max(float(high[i]), float(best[i])),
        )
        for i, name in enumerate(names)
    }


def limits(found: Interval | None) -> dict[str, Json] | None:
    """An interval for ``--json``; the value is None where nothing was measured."""
    if found is None:
        return None
    value = None if math.isnan(found.estimate) else found.estimate
    return {"value": value, "low": found.low, "high": found.high}


def _agreed(
    about: str, asked: Sequence[Question], people: Sequence[Answers], labels: Sequence[str]
) -> Agreement:
    table = [[person.answers.get(question.id) for question in asked] for person in people]
    columns = [[a for a in column if a is not None] for column in zip(*table, strict=True)]
    several = [column for column in columns if len(column) > 1]
    alike = sum(len(set(column)) == 1 for column in several)
    notes: list[str] = []
    alpha = kappa = None
    try:
        alpha = krippendorff_alpha(table)
    except BadInput as error:
        notes.append(f"alpha: {error}")
    if people and all(len(column) == len(people) for column in columns):
        try:
            kappa = fleiss_kappa([[column.count(label) for label in labels] for column in columns])
        except BadInput as error:
            notes.append(f"kappa: {error}")
    return Agreement(
        about=about,
        items=len(several),
        raters=sum(any(a is not None for a in row) for row in table),
        alike=clopper_pearson(alike, len(several)),
        alpha=alpha,
        kappa=kappa,
        note=" ".join(notes),
    )


def _compared(task: Task, people: Sequence[Answers]) -> list[tuple[str, str, str, float]]:
    """System, system, prompt, and how much the first of them won."""
    if task.kind != "compare":
        raise BadInput("Only a compare task says which system is preferred.")
    rows = [
        (q.left.system, q.right.system, f"{q.left.suite}/{q.left.prompt}", _WON[p.answers[q.id]])
        for q in task.questions
        for p in people
        if q.right is not None and q.id in p.answers
    ]
    if not rows:
        raise BadInput("Nobody has answered anything yet.")
    return rows


def _share(won: Sequence[float], prompts: Sequence[str]) -> tuple[Interval, str]:
    try:
        return cluster_bootstrap(won, prompts), ""
    except BadInput:  # all prompts alike, or only one
        mean, n = float(np.mean(won)), len(set(prompts))
        whole = clopper_pearson(round(mean * n), n)
        note = "Clopper-Pearson, one answer a prompt"
        limits_ = Interval(estimate=mean, low=min(whole.low, mean), high=max(whole.high, mean))
        return limits_, note


def by_picture(
    found: Mapping[str, Mapping[str, bool | None]], pictures: Sequence[Shown]
) -> dict[str, list[bool | None]]:
    """Truth by concept as lists in the order of some pictures, as cards want it."""
    return {c: [told.get(p.picture) for p in pictures] for c, told in found.items()}
