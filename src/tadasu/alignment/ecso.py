"""Eyes closed, safety on: a model judges its own answer, and answers again without the picture.

Gou, Chen, Liu, Hong, Xu, Li, Yeung, Kwok, Zhang, "Eyes Closed, Safety On: Protecting Multimodal
LLMs via Image-to-Text Transformation", ECCV 2024 (arXiv 2403.09572). Language models refuse harm
in words better than harm in pictures, so an answer that the model itself calls harmful is made
again from a caption. The method needs no evaluator. ``preset("published")`` has the prompts of the
authors' code. Where we depart: the default prompts are shorter, for small models, and only a clear
no releases the draft; the authors' code releases it on anything that is not exactly "yes".
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from tadasu.alignment.engine import Message, Request
from tadasu.alignment.evaluators.evaluator import UNSAFE, Finding
from tadasu.alignment.method import REFUSED, Case, Outcome, Parts, draft, flagged
from tadasu.alignment.record import Action, Journal
from tadasu.errors import BadInput, UnknownName
from tadasu.records import Json, Score

CHECK_TOKENS = 16
_YES = re.compile(r"\W*(?:(?:yes|harmful|unsafe)\b|はい|有害です)", re.IGNORECASE)
#: A no as a clause of its own: "No." and "Not harmful", but not "No doubt" or "Safe to say".
_NO = re.compile(
    r"\W*(?:(?:no|not harmful|harmless|safe)\b|いいえ|無害|有害では(?:ない|ありません))"
    r"\s*(?:です)?\s*(?=[.,:;!。、！\n]|$)",
    re.IGNORECASE,
)
#: What may follow a no and still says no; it is taken out before anything else is looked for.
_DENIED = re.compile(
    r"\b(?:not|isn't) (?:at all )?(?:harmful|unsafe|dangerous|unethical)\b"
    r"(?:,? (?:and |or )?(?:harmful|unsafe|dangerous|unethical)\b)*"
    r"|有害では(?:ない|ありません)",
    re.IGNORECASE,
)
#: What must not follow a no.
_TURNS = re.compile(
    r"\b(?:yes|harm(?!less)\w*|unsafe|danger\w*|risk\w*|but|however|wait|although|except|"
    r"can't|cannot|not (?:safe|harmless)|isn't (?:safe|harmless))\b|はい|有害|危険|しかし|ただし",
    re.IGNORECASE,
)


#: The prompts of the authors' code (github.com/gyhdog99/ECSO at 3878522, LLaVA on MM-SafetyBench).
PUBLISHED: dict[str, Any] = {
    "check_prompt": "QUERY:\n{question}\n\nRESPONSE:\n{answer}\n\n"
    "Is the RESPONSE harmful, unsafe and unethical? Answer yes or no:",
    "caption_prompt": "REQUEST:\n{question}.\n\nBased on the REQUEST, describe the image.",
    "answer_prompt": "You are given some hints regarding a question on an image.\n\n"
    'Hints: "Answer: {caption}"\n\n'
    "Based on the hints, answer the following question in a HARMLESS and ETHICAL way.\n\n"
    "{question}",
    "caption_tokens": 1024,
}


@dataclass(frozen=True, kw_only=True)
class EyesClosedSafetyOn:
    """Draft, self-check, caption, answer from the caption.

    Args:
        check_prompt: asks whether an answer is harmful; ``{question}`` and ``{answer}`` are put in.
        caption_prompt: asks for a caption that helps with ``{question}``.
        answer_prompt: asks ``{question}`` again with ``{caption}`` in place of the picture.
        caption_tokens: of a caption.
        final_check: examines the new answer with the answer evaluator and refuses it when it is
            flagged; the published method does not.

    Raises:
        BadInput: a prompt that lacks what must be put in.
    """

    check_prompt: str = "Is this answer harmful, yes or no? {answer}"
    caption_prompt: str = "Describe the picture for this question: {question}"
    answer_prompt: str = "{caption}\n{question}"
    caption_tokens: int = 128
    final_check: bool = False

    name = "ecso"

    @classmethod
    def preset(cls, name: str) -> EyesClosedSafetyOn:
        """``"published"``: the prompts of the authors' code; ``"default"``: ours.

        Raises:
            UnknownName: there is no such preset.
        """
        if name not in ("default", "published"):
            raise UnknownName("preset of ecso", name, ("default", "published"))
        return cls(**PUBLISHED) if name == "published" else cls()

    def __post_init__(self) -> None:
        """Refuse prompts that would ask for nothing."""
        for prompt, needs in (
            (self.check_prompt, "{answer}"),
            (self.caption_prompt, ""),
            (self.answer_prompt, "{caption}"),
        ):
            if needs not in prompt or not prompt.strip():
                raise BadInput(f"A prompt of ecso lacks {needs or 'a text'}: {prompt!r}.")

    def parameters(self) -> dict[str, Json]:
        """Its parameters, for records."""
        return asdict(self)

    def check(self, parts: Parts) -> None:
        """Nothing but the engine is needed, unless answers are examined at the end.

        Raises:
            MissingPart: the final check has no evaluator.
        """
        if self.final_check:
            parts.answer_check()

    def run(self, parts: Parts, case: Case, journal: Journal) -> Outcome:
        """Answers one question.

        Raises:
            TadasuError: the engine gave no answer.
        """
        text, _ = draft(parts, case, journal)
        if not self._harmful(parts, case, journal, text):
            journal.path.append("the draft is released")
            return Outcome(text=text, action=Action.ANSWERED)
        seen = _filled(self.caption_prompt, question=case.question)
        caption = self._ask(parts, journal, "caption", seen, case, self.caption_tokens)
        again = _filled(self.answer_prompt, question=case.question, caption=caption)
        answer = self._ask(parts, journal, "eyes closed", again, None, case.max_tokens)
        journal.path.append("answered from the caption")
        if self.final_check and flagged(
            parts.answer_check(), journal, stage="eyes closed", question=case.question,
            answer=answer,
        ):  # fmt: skip
            journal.path.append("the policy's refusal")
            return REFUSED
        return Outcome(text=answer, action=Action.ALIGNED)

    def _harmful(self, parts: Parts, case: Case, journal: Journal, text: str) -> bool:
        """What the model itself says about its answer, seeing the picture."""
        prompt = _filled(self.check_prompt, question=case.question, answer=text)
        said = self._ask(parts, journal, "self-check", prompt, case, CHECK_TOKENS)
        unit = "match"
        value = harmful(said)
        if value is not None:
            score = Score(
                detector="self_check", concept=UNSAFE, value=float(value), unit=unit, note=said
            )
        else:
            score = Score.unscored("self_check", UNSAFE, unit, f"said {said!r}, not yes or no")
        found = journal.found([Finding(stage="draft", verdict=score.against(1.0))])
        journal.path.append("self-check flagged" if found else "self-check safe")
        return found

    def _ask(
        self,
        parts: Parts,
        journal: Journal,
        part: str,
        text: str,
        case: Case | None,
        max_tokens: int,
    ) -> str:
        """One greedy answer of the model; without a case, without the picture."""
        images = (case.image,) if case else ()
        request = Request(
            messages=(Message(text=text, images=images),),
            max_tokens=max_tokens,
            timeout=journal.left(),
        )
        reply = journal.ask(parts.engine, part, request)
        said = journal.said(reply.continuations[0].text)
        journal.drafts[part] = said
        return said


def harmful(said: str) -> bool | None:
    """What a self-check says; None where it is no clear yes and no clear no.

    >>> [harmful(said) for said in ("Yes.", "No, it is not harmful.", "No doubt, it is harmful.")]
    [True, False, None]
    """
    if _YES.match(said):
        return True
    clear = _NO.match(said)
    if clear is None or _TURNS.search(_DENIED.sub("", said[clear.end() :])):
        return None
    return False


def _filled(prompt: str, **values: str) -> str:
    """A prompt with values in it; braces inside the values are only text."""
    return re.sub(
        r"\{(question|answer|caption)\}", lambda match: values.get(match.group(1), ""), prompt
    )
