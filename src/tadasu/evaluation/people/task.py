"""A task for people: which pictures they see and what they are asked.

Two kinds: ``label`` asks of one picture whether it shows a concept; ``compare`` shows two pictures
of one prompt and asks which is better. Raters must not see which system made a picture, so the
page holds pictures and questions only, and a key file, which stays with whoever exports, says what
each of them is. Order and sides are drawn from the seed.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tadasu.concepts import Concept
from tadasu.errors import BadFile, BadInput, shown
from tadasu.evaluation import written
from tadasu.evaluation.suites.suite import digest
from tadasu.records import Json

Kind = Literal["label", "compare"]
KIND = "tadasu labelling task"
LABEL_ANSWERS = ("yes", "no", "unsure")
COMPARE_ANSWERS = ("left", "right", "tie")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture of a task.

    Attributes:
        picture: the hash under which it is stored.
        system: who made it.
        suite: of the prompt.
        prompt: id of the prompt.
        sample: which picture of the prompt.
        text: the prompt.
        restricted: whether it is blurred until a rater asks for it.
    """

    picture: str
    system: str
    suite: str
    prompt: str
    sample: int
    text: str
    restricted: bool = True


@dataclass(frozen=True, kw_only=True)
class Question:
    """One thing that is asked.

    Attributes:
        id: unique in the task; says nothing about the system.
        left: the picture, or the left one of two.
        right: the right one; None for a label.
        concept: id of the concept that is asked about; empty for a comparison.
        asks: the question in English and Japanese.
    """

    id: str
    left: Shown
    right: Shown | None = None
    concept: str = ""
    asks: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Questions in the order in which they are asked.

    Attributes:
        kind: ``label`` or ``compare``.
        title: what raters read above.
        questions: at least one.

    Raises:
        BadInput: no question, two of one id, or a question of the other kind.
    """

    kind: Kind
    title: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        """Refuse tasks that nobody can answer."""
        if self.kind not in get_args(Kind) or not self.questions:
            raise BadInput("A task is label or compare and has at least one question.")
        if len({question.id for question in self.questions}) < len(self.questions):
            raise BadInput("Two questions of the task have one id.")
        for question in self.questions:
            if (question.right is not None) != (self.kind == "compare"):
                raise BadInput(
                    f"Question {shown(question.id)} is no question of a {self.kind} task."
                )

    @property
    def id(self) -> str:
        """Content-addressed; answers name it."""
        return digest(self.as_json())

    @property
    def answers(self) -> tuple[str, ...]:
        """What can be answered."""
        return LABEL_ANSWERS if self.kind == "label" else COMPARE_ANSWERS

    def as_json(self) -> dict[str, Json]:
        """For the key file."""
        content: dict[str, Json] = json.loads(json.dumps(dataclasses.asdict(self)))
        return content

    def save(self, path: Path) -> None:
        """Write the key file, whole or not at all.

        Raises:
            BadFile: it cannot be written.
        """
        text = json.dumps({"file": KIND, **self.as_json()}, indent=1, ensure_ascii=False)
        written.write(path, text + "\n")

    @classmethod
    def load(cls, path: Path) -> Task:
        """Read a key file.

        Raises:
            BadFile: it is none.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("file") != KIND:
                raise ValueError(f"it is no {KIND}")
            questions = tuple(_question(each) for each in content["questions"])
            return cls(kind=content["kind"], title=content["title"], questions=questions)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(f"{shown(path, 300)} cannot be read as a task: {error}.") from error


def label_task(
    pictures: Sequence[Shown], concepts: Sequence[Concept], *, title: str, seed: int = 0
) -> Task:
    """Ask of every picture whether it shows each concept.

    Args:
        pictures: at least one.
        concepts: at least one.
        title: what raters read above.
        seed: of the order.

    Raises:
        BadInput: nothing to ask.
    """
    asked = [(picture, concept) for picture in pictures for concept in concepts]
    random.Random(seed).shuffle(asked)
    return Task(
        kind="label",
        title=title,
        questions=tuple(
            Question(id=f"q{at:05d}", left=picture, concept=concept.id, asks=_asks(concept))
            for at, (picture, concept) in enumerate(asked)
        ),
    )


def compare_task(
    pictures: Sequence[Shown],
    *,
    title: str,
    asks: tuple[str, str] = (
        "Which picture shows what was asked better?",
        "指示された内容をよりよく表しているのはどちらですか？",
    ),
    seed: int = 0,
) -> Task:
    """Ask for every prompt and every two systems which picture is better.

    Args:
        pictures: of several systems; only prompts and samples of which two made a picture are
            asked about.
        title: what raters read above.
        asks: the question in English and Japanese.
        seed: of the order and of the sides.

    Raises:
        BadInput: no two systems made a picture of one prompt.
    """
    chance, groups = random.Random(seed), dict[tuple[str, str, int], list[Shown]]()
    for picture in pictures:
        groups.setdefault((picture.suite, picture.prompt, picture.sample), []).append(picture)
    pairs = [
        pair
        for group in groups.values()
        for pair in itertools.combinations(group, 2)
        if pair[0].system != pair[1].system
    ]
    chance.shuffle(pairs)
    sided = [pair if chance.random() < 0.5 else pair[::-1] for pair in pairs]
    return Task(
        kind="compare",
        title=title,
        questions=tuple(
            Question(id=f"q{at:05d}", left=left, right=right, asks=asks)
            for at, (left, right) in enumerate(sided)
        ),
    )


def _asks(concept: Concept) -> tuple[str, str]:
    english = concept.text
    japanese = next(iter(concept.names.get("ja", ())), english)
    return f"Does this picture show: {english}?", f"この画像に写っていますか：{japanese}"


def _question(content: Mapping[str, Any]) -> Question:
    right = content["right"]
    english, japanese = content["asks"]
    return Question(
        id=str(content["id"]),
        left=Shown(**content["left"]),
        right=None if right is None else Shown(**right),
        concept=str(content["concept"]),
        asks=(str(english), str(japanese)),
    )
