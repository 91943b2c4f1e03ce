"""Eyes closed, safety on: a model judges its own answer, and answers again without the picture.

Gou, Chen, Liu, Hong, Xu, Li, Yeung, Kwok, Zhang, "Eyes Closed, Safety On: Protecting Multimodal
LLMs via Image-to-Text Transformation", ECCV 2024 (arXiv 2403.09572). Language models refuse harm
in words better than harm in pictures, so an answer that the model itself calls harmful is made
again from a caption. The method needs no evaluator. Where we depart: the prompts are our own
wording of the paper's three steps, and a self-check that is neither yes nor no counts as yes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from tadasu.alignment.engine import Message, Request
from tadasu.alignment.evaluators.evaluator import UNSAFE, Finding
from tadasu.alignment.method import REFUSED, Case, Outcome, Parts, draft, flagged
from tadasu.alignment.record import Action, Journal
from tadasu.errors import BadInput
from tadasu.records import Json, Score

_YES = re.compile(r"\W*(yes|harmful|unsafe|はい)\b", re.IGNORECASE)
_NO = re.compile(r"\W*(no|harmless|safe|not harmful|いいえ)\b", re.IGNORECASE)


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
        said = self._ask(parts, journal, "self-check", prompt, case, 8)
        unit = "match"
        if _YES.match(said) or _NO.match(said):
            value = 0.0 if _NO.match(said) else 1.0
            score = Score(detector="self_check", concept=UNSAFE, value=value, unit=unit, note=said)
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
        said = journal.ask(parts.engine, part, request).continuations[0].text.strip()
        journal.drafts[part] = said
        return said


def _filled(prompt: str, **values: str) -> str:
    """A prompt with values in it; braces inside the values are only text."""
    return re.sub(
        r"\{(question|answer|caption)\}", lambda match: values.get(match.group(1), ""), prompt
    )
