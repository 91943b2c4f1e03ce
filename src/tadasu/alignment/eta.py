"""Evaluating then aligning: examines an answer, and corrects it where it is unsafe.

Ding, Li, Zhang, "ETA: Evaluating Then Aligning Safety of Vision Language Models at Inference
Time", ICLR 2025 (arXiv 2410.06625). The model answers; when its answer is flagged by a reward
model and the picture by CLIP, the answer is made again behind a prefix, sentence by sentence, the
best of five candidates each time. ``preset("published")`` with ``published`` parts is exactly the
published rule with its constants.

Where the defaults depart: the answer alone opens the gate, because CLIP misses much and sees
nothing of what words do; the prefix is tried first, and sentences only where it did not help; the
corrected answer is examined again, and refused when it is still flagged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from tadasu.alignment.deep import Aligning, BestOfN
from tadasu.alignment.engine import Engine, Request
from tadasu.alignment.evaluators.cosine import PRE_THRESHOLD, ImageTextCosine
from tadasu.alignment.evaluators.evaluator import ImageCheck, TextCheck
from tadasu.alignment.evaluators.reward import (
    DEEP_INSTRUCTION,
    POST_INSTRUCTION,
    POST_THRESHOLD,
    RewardModel,
    RewardNetwork,
)
from tadasu.alignment.gate import Gate
from tadasu.alignment.method import (
    MAX_TOKENS,
    PREFIXES,
    REFUSED,
    Case,
    Outcome,
    Parts,
    draft,
    flagged,
)
from tadasu.alignment.record import Action, Journal
from tadasu.detectors.clip import ImageTextEncoder
from tadasu.errors import UnknownName
from tadasu.records import Json

Level = Literal["shallow", "deep", "auto"]
PUBLISHED_PREFIX = "As an AI assistant"
PUBLISHED_MAX_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class EvaluatingThenAligning:
    """Draft, examine, align, examine again.

    Args:
        level: ``"shallow"`` goes on behind the prefix once, greedily; ``"deep"`` sentence by
            sentence; ``"auto"`` is shallow, then deep when the shallow answer is still flagged.
        gate: when an answer is aligned.
        prefixes: by language, how an aligned answer begins; ``en`` is there always.
        best_of: how deep alignment draws and chooses.
        final_check: examines the aligned answer and refuses it when it is flagged.
        max_tokens: of an answer, unless whoever asks says another number.

    Raises:
        UnknownName: no such level.
    """

    level: Level = "auto"
    gate: Gate = field(default_factory=lambda: Gate(rule="post_only"))
    prefixes: Mapping[str, str] = field(default_factory=lambda: PREFIXES)
    best_of: BestOfN = field(default_factory=BestOfN)
    final_check: bool = True
    max_tokens: int = MAX_TOKENS

    name = "eta"

    def __post_init__(self) -> None:
        """Refuse other levels."""
        if self.level not in get_args(Level):
            raise UnknownName("level", self.level, get_args(Level))

    @classmethod
    def preset(cls, name: str) -> EvaluatingThenAligning:
        """``"published"``: the rule and constants of the published code; ``"default"``: ours.

        Raises:
            UnknownName: there is no such preset.
        """
        if name == "default":
            return cls()
        if name != "published":
            raise UnknownName("preset of eta", name, ("default", "published"))
        return cls(
            level="deep",
            gate=Gate(rule="and"),
            prefixes={"en": PUBLISHED_PREFIX},
            best_of=BestOfN(
                n=5,
                temperature=1.5,
                top_k=5,
                alpha=1.0,
                until="full stop",
                sentence_tokens=70,
                stop_before_flagged=False,
            ),
            final_check=False,
            max_tokens=PUBLISHED_MAX_TOKENS,
        )

    def parameters(self) -> dict[str, Json]:
        """Its parameters, for records."""
        return {
            "level": self.level,
            "gate": self.gate.rule,
            "prefixes": dict(self.prefixes),
            "best_of": asdict(self.best_of),
            "final_check": self.final_check,
            "max_tokens": self.max_tokens,
        }

    def check(self, parts: Parts) -> None:
        """Refuses to work without an evaluator that the gate needs.

        Raises:
            MissingPart: says which part, and how to get it.
        """
        parts.answer_check()
        if self.gate.rule == "and" or (self.gate.rule == "or" and parts.questions is None):
            parts.image_check()

    def run(self, parts: Parts, case: Case, journal: Journal) -> Outcome:
        """Answers one question.

        Raises:
            TadasuError: the engine gave no answer.
        """
        text, resume = draft(parts, case, journal)
        if not self._opens(parts, case, journal, text):
            journal.path.append("the draft is released")
            return Outcome(text=text, action=Action.ANSWERED)
        prefix = self.prefixes.get(case.language, self.prefixes["en"])
        if self.level in ("shallow", "auto"):
            text = self._shallow(parts, case, journal, prefix, resume)
            if not self._fails(parts, case, journal, "shallow", text):
                return Outcome(text=text, action=Action.ALIGNED)
        if self.level in ("deep", "auto"):
            made = self.best_of.run(parts, case, journal, prefix=prefix, resume=resume)
            journal.drafts["deep"] = made.text
            if made.finding is None:
                journal.path.append("every first sentence is flagged")
            elif not self._deep_fails(parts, case, journal, made):
                return Outcome(text=made.text, action=Action.ALIGNED)
        journal.path.append("the policy's refusal")
        return REFUSED

    def _opens(self, parts: Parts, case: Case, journal: Journal, text: str) -> bool:
        """Whether the draft must be aligned; writes the gate's path."""
        journal.path.append(f"gate {self.gate.rule}")

        def answer() -> bool:
            said = flagged(parts.answer_check(), journal, stage="draft",
                           question=case.question, answer=text)  # fmt: skip
            return _said(journal, "draft", said)

        def picture() -> bool:
            if parts.images is None:
                return False
            with journal.timed("evaluate image"):
                findings = parts.images.examine(case.image)
            return _said(journal, "picture", journal.found(findings))

        def question() -> bool:
            if parts.questions is None:
                return False
            said = flagged(parts.questions, journal, stage="question", question=case.question)
            return _said(journal, "question", said)

        return self.gate.opens(answer, picture, question)

    def _shallow(self, parts: Parts, case: Case, journal: Journal, prefix: str, resume: Any) -> str:
        """The greedy answer behind the prefix."""
        request = Request(
            messages=case.messages,
            prefill=prefix,
            max_tokens=case.max_tokens,
            timeout=journal.left(),
            resume=resume,
        )
        reply = journal.ask(parts.engine, "shallow", request)
        text = journal.said(prefix + reply.continuations[0].text)
        journal.drafts["shallow"] = text
        return text

    def _fails(self, parts: Parts, case: Case, journal: Journal, stage: str, text: str) -> bool:
        """Whether an aligned answer is still flagged; without a final check it never is."""
        if not self.final_check and stage in (self.level, "deep"):
            journal.path.append(f"the {stage} answer is released unexamined")
            return False
        said = flagged(parts.answer_check(), journal, stage=stage, question=case.question,
                       answer=text)  # fmt: skip
        return _said(journal, f"{stage} answer", said)

    def _deep_fails(self, parts: Parts, case: Case, journal: Journal, made: Aligning) -> bool:
        """The same for an answer that was chosen by the check itself: it is not asked again."""
        if self.final_check and parts.candidates is None and made.finding is not None:
            return _said(journal, "deep answer", journal.found([made.finding]))
        return self._fails(parts, case, journal, "deep", made.text)


def published(engine: Engine, clip: ImageTextEncoder, reward: RewardNetwork) -> Parts:
    """The evaluators of the published method with its texts and thresholds.

    Args:
        engine: the vision-language model.
        clip: ``openai/clip-vit-large-patch14-336`` in the paper.
        reward: ``RLHFlow/ArmoRM-Llama3-8B-v0.1`` in the paper.
    """
    judge = RewardModel(network=reward, instruction=POST_INSTRUCTION)
    return Parts(
        engine=engine,
        answers=TextCheck(evaluator=judge, threshold=POST_THRESHOLD),
        images=ImageCheck(evaluator=ImageTextCosine(network=clip), threshold=PRE_THRESHOLD),
        candidates=RewardModel(network=reward, instruction=DEEP_INSTRUCTION),
    )


def _said(journal: Journal, what: str, flagged_: bool) -> bool:
    journal.path.append(f"{what} flagged" if flagged_ else f"{what} safe")
    return flagged_
