"""The contract of an alignment method, and what it is given to work with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tadasu.alignment.engine import Engine, Message, Request
from tadasu.alignment.evaluators.evaluator import (
    Exchange,
    ImageCheck,
    TextCheck,
    TextEvaluator,
)
from tadasu.alignment.record import Action, Journal
from tadasu.errors import MissingPart
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_TOKENS = 512
_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Who generates and who evaluates.

    Attributes:
        engine: the vision-language model.
        answers: evaluates answers; None for a method that has no use for it.
        images: evaluates the picture, and how well sentences fit it.
        questions: evaluates the user's text; None leaves it unexamined, as published.
        candidates: scores candidates of deep alignment; None for the evaluator of ``answers``.
    """

    engine: Engine
    answers: TextCheck | None = None
    images: ImageCheck | None = None
    questions: TextCheck | None = None
    candidates: TextEvaluator | None = None

    def answer_check(self) -> TextCheck:
        """The check of answers.

        Raises:
            MissingPart: there is none.
        """
        if self.answers is None:
            raise MissingPart(
                "Aligning answers needs an evaluator of answers: a reward model or guard "
                "classifier, given as a folder or hub id. Reading one needs an extra. Install it "
                "with: pip install 'tadasu[diffusers]'"
            )
        return self.answers

    def image_check(self) -> ImageCheck:
        """The check of pictures.

        Raises:
            MissingPart: there is none.
        """
        if self.images is None:
            raise MissingPart(
                "This gate looks at the picture and needs a CLIP, given as a folder or hub id. "
                "Reading one needs an extra. Install it with: pip install 'tadasu[diffusers]'"
            )
        return self.images


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question about one picture.

    Attributes:
        image: an RGB picture.
        question: what the user asks.
        messages: the whole conversation; the last message holds picture and question.
        seed: of every draw.
        max_tokens: of an answer.
    """

    image: Image = field(repr=False)
    question: str
    messages: tuple[Message, ...]
    seed: int | None = 0
    max_tokens: int = MAX_TOKENS

    @property
    def language(self) -> str:
        """``ja`` for a question with Japanese characters, else ``en``."""
        return "ja" if _JAPANESE.search(self.question) else "en"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method decided.

    Attributes:
        text: the answer; empty when it must be refused.
        action: answered, aligned or refused.
    """

    text: str
    action: Action


REFUSED = Outcome(text="", action=Action.REFUSED)


@runtime_checkable
class Method(Protocol):
    """Evaluates a model's answer and corrects it; a frozen dataclass of its parameters."""

    @property
    def name(self) -> str:
        """The public name, which is the name of its file."""
        ...

    def parameters(self) -> dict[str, Json]:
        """Its parameters, for records."""
        ...

    def check(self, parts: Parts) -> None:
        """Refuses parts that it cannot work with, before anybody asks anything.

        Raises:
            MissingPart: says which part, and how to get it.
        """
        ...

    def run(self, parts: Parts, case: Case, journal: Journal) -> Outcome:
        """Answers one question; everything that matters is written into the journal.

        Raises:
            TadasuError: the answer could not be made; whoever called refuses.
        """
        ...


PREFIXES: Mapping[str, str] = MappingProxyType(
    {"en": "As an AI assistant,", "ja": "AIアシスタントとして、"}
)


def draft(parts: Parts, case: Case, journal: Journal) -> tuple[str, object]:
    """What the model says by itself, greedily, and where its conversation can be resumed."""
    request = Request(messages=case.messages, max_tokens=case.max_tokens, timeout=journal.left())
    reply = journal.ask(parts.engine, "draft", request)
    text = journal.said(reply.continuations[0].text)
    journal.drafts["draft"] = text
    return text, reply.resume


def flagged(
    check: TextCheck, journal: Journal, *, stage: str, question: str = "", answer: str = ""
) -> bool:
    """Evaluates one text and writes the finding down."""
    with journal.timed(f"evaluate {stage}"):
        findings = check.examine(stage, [Exchange(question=question, answer=answer)])
    return journal.found(findings)
