"""A vision-language model that answers under a policy: the room's front door.

It fails closed: when anything breaks off after the question was accepted, the user gets the
policy's refusal and the record says what broke.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tadasu.alignment import intake
from tadasu.alignment.engine import Engine, Message
from tadasu.alignment.eta import EvaluatingThenAligning, Level
from tadasu.alignment.evaluators.evaluator import ImageCheck, TextCheck
from tadasu.alignment.evaluators.lexicon import THRESHOLD, PolicyLexicon
from tadasu.alignment.method import MAX_TOKENS, REFUSED, Case, Method, Outcome, Parts
from tadasu.alignment.opening import opener
from tadasu.alignment.record import Action, Answer, Journal, explained, spent
from tadasu.errors import BadInput, RunFailed, TadasuError
from tadasu.policy import Policy
from tadasu.records import Json

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "en": "I can't help with this picture and question.",
        "ja": "この画像とご質問については、お手伝いできません。",
    }
)


@dataclass(frozen=True, kw_only=True)
class Evaluators:
    """Who evaluates, as parts or as references.

    Attributes:
        answers: a check, or a folder or hub id of a reward model or guard classifier; None looks
            for a folder ``evaluator`` beside the model's own.
        images: a check, or a folder or hub id of a CLIP; None looks for a folder ``clip``.
        questions: a check of the user's text; ``"policy"`` looks for the policy's names; None
            leaves it unexamined, as published.
        answer_threshold: of a reference; None for what its card says.
        image_threshold: of a reference; None for what its card says, else the published one.
    """

    answers: TextCheck | str | None = None
    images: ImageCheck | str | None = None
    questions: TextCheck | str | None = None
    answer_threshold: float | None = None
    image_threshold: float | None = None


class Aligned:
    """A vision-language model whose answers are evaluated, then aligned.

    Args:
        model: a folder, a hub id, ``world``, the web address of a server that speaks the OpenAI
            protocol, or an engine.
        policy: what the model answers under, or its name; None for no concepts.
        level: shallow, deep or auto, for the default method.
        method: another method; then ``level`` is not looked at.
        evaluators: who evaluates, or finished parts without an engine of their own.
        refusals: by language, what a user reads instead of an answer; ``en`` is needed.
        max_tokens: of an answer; None for what the method says (1,024 for the published ETA),
            else 512.
        timeout: seconds for one question; None for no limit.
        hosts: hosts that pictures may be fetched from; none at first.
        device: a torch device for what is loaded.

    Raises:
        BadInput: a parameter that cannot be used.
        BadFile: a reference holds something else.
        MissingPart: an evaluator that the method needs is missing; the message says which, and
            which extra installs it.
    """

    def __init__(
        self,
        model: str | Engine,
        *,
        policy: Policy | str | None = None,
        level: Level = "auto",
        method: Method | None = None,
        evaluators: Evaluators | Parts | None = None,
        refusals: Mapping[str, str] = REFUSALS,
        max_tokens: int | None = None,
        timeout: float | None = None,
        hosts: Sequence[str] = (),
        device: str | None = None,
    ) -> None:
        if not refusals.get("en", "").strip():
            raise BadInput("A refusal in English is needed, for users of any language.")
        self.method: Method = method or EvaluatingThenAligning(level=level)
        if max_tokens is None:
            max_tokens = int(getattr(self.method, "max_tokens", MAX_TOKENS))
        if max_tokens < 1 or (timeout is not None and not timeout > 0):
            raise BadInput(f"max_tokens={max_tokens} and timeout={timeout} must be above 0.")
        self.policy = Policy.load(policy) if isinstance(policy, str) else policy
        if isinstance(evaluators, Parts):
            self.parts = evaluators
        else:
            self.parts = _opened(model, evaluators or Evaluators(), self.policy, device)
        self.method.check(self.parts)
        self.refusals, self.max_tokens, self.timeout = dict(refusals), max_tokens, timeout
        self.hosts = frozenset(host.lower() for host in hosts)

    @property
    def system(self) -> dict[str, Json]:
        """What answers: engine, method with its parameters, evaluators with their thresholds."""
        parts = self.parts
        checks = {"answers": parts.answers, "images": parts.images, "questions": parts.questions}
        return {
            "engine": parts.engine.name,
            "weights": getattr(parts.engine, "content", None),
            "method": self.method.name,
            "parameters": self.method.parameters(),
            "evaluators": {
                name: {
                    "name": check.evaluator.name,
                    "threshold": check.threshold,
                    "weights": getattr(getattr(check.evaluator, "network", None), "content", None),
                }
                for name, check in checks.items()
                if check is not None
            },
        }

    def ask(
        self, image: Any, text: str, *, history: Sequence[Message] = (), seed: int | None = 0
    ) -> Answer:
        """Answers one question about one picture.

        Args:
            image: a PIL picture, a path, bytes, a ``data:`` address, or a web address of an
                allowed host.
            text: the question.
            history: earlier turns of the conversation.
            seed: of every draw; None draws freely.

        Returns:
            The answer with its record; a refusal when it could not be made safely.

        Raises:
            BadInput: the picture or the text cannot be used; nothing was generated.
            BadFile: the picture cannot be opened safely.
            MissingPart: the model is not reachable; nothing was generated.
        """
        seen = intake.picture(image, hosts=self.hosts)
        said = intake.question(text)
        case = Case(
            image=seen,
            question=said,
            messages=(*history, Message(text=said, images=(seen,))),
            seed=seed,
            max_tokens=self.max_tokens,
        )
        journal = Journal()
        if self.timeout is not None:
            journal.deadline = time.monotonic() + self.timeout
        error = ""
        with journal.timed("all"):
            try:
                outcome = self.method.run(self.parts, case, journal)
            except TadasuError as failure:
                if not journal.drafts and not isinstance(failure, RunFailed):
                    raise  # the draft was never made: the question does not fit, or nobody is there
                outcome, error = REFUSED, str(failure)
            except Exception as failure:  # whatever goes wrong withholds the answer
                outcome, error = REFUSED, f"{type(failure).__name__}: {failure}"
        if error:
            journal.path.append("broke off: the policy's refusal")
        return self._answer(case, journal, outcome, error)

    def _answer(self, case: Case, journal: Journal, outcome: Outcome, error: str) -> Answer:
        text = outcome.text.strip()
        action = outcome.action
        if action is not Action.REFUSED and not text:
            action = Action.REFUSED
            journal.path.append("the answer was empty: the policy's refusal")
        if action is Action.REFUSED:
            text = self.refusals.get(case.language, self.refusals["en"])
        return Answer(
            text=text,
            action=action,
            explanation=explained(journal, action, error),
            question=case.question,
            image=intake.fingerprint(case.image),
            system=self._system_once(),
            policy=self.policy.identity if self.policy else {},
            tokens=spent(journal),
        )

    def _system_once(self) -> dict[str, Json]:
        """The system, computed for the first answer: hashing weights takes time."""
        if "_system" not in self.__dict__:
            self._system: dict[str, Json] = self.system
        return self._system


def _opened(
    model: str | Engine, evaluators: Evaluators, policy: Policy | None, device: str | None
) -> Parts:
    """References as parts; torch is only imported when one of them needs it."""
    answers, images = evaluators.answers, evaluators.images
    found = opener().beside(model if isinstance(model, str) else model.name)
    answers = answers if answers is not None else found.get("evaluator")
    images = images if images is not None else found.get("clip")
    engine = opener().engine(model, device=device) if isinstance(model, str) else model
    if isinstance(answers, str):
        threshold = evaluators.answer_threshold
        answers = opener().answers(answers, threshold=threshold, device=device)
    if isinstance(images, str):
        images = opener().images(
            images, threshold=evaluators.image_threshold, policy=policy, device=device
        )
    return Parts(
        engine=engine,
        answers=answers,
        images=images,
        questions=_questions(evaluators.questions, policy),
    )


def _questions(given: TextCheck | str | None, policy: Policy | None) -> TextCheck | None:
    """The check of the user's text."""
    if given is None or isinstance(given, TextCheck):
        return given
    if given != "policy":
        raise BadInput(f"Questions are evaluated by a check or by 'policy', not by {given!r}.")
    if policy is None or not policy.concepts:
        raise BadInput("Without a policy that has concepts no question can be looked at for names.")
    return TextCheck(evaluator=PolicyLexicon(concepts=policy.concepts), threshold=THRESHOLD)
