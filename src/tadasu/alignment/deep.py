"""Deep alignment: an answer sentence by sentence, the best of several candidates each time.

ETA (arXiv 2410.06625), section on deep alignment: candidate j of sentence i is scored by the
reward of the whole answer so far plus ``alpha / i`` times the cosine of the picture with the
candidate alone; in the first round, and in a round in which a candidate ends the answer, by the
reward alone. The best is kept. Where we depart, unless told otherwise: a round in which every
candidate is flagged ends the answer before it, instead of choosing the least bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tadasu.alignment.engine import Continuation, Request, Sampling, Until
from tadasu.alignment.evaluators.evaluator import Exchange, Finding, TextCheck
from tadasu.alignment.method import Case, Parts
from tadasu.alignment.record import Candidate, Journal, Round
from tadasu.errors import BadInput, RunFailed

MAX_ROUNDS = 200


@dataclass(frozen=True, kw_only=True)
class Aligning:
    """An answer that was put together from sentences.

    Attributes:
        text: the answer with its prefix; only the prefix when no candidate was taken.
        finding: what the evaluator of candidates said about the whole answer; None when no
            candidate was taken.
    """

    text: str
    finding: Finding | None


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """How deep alignment draws and chooses.

    Attributes:
        n: candidates a sentence.
        temperature: of the draws.
        top_k: of the draws; another number than ``n`` (the published code has one for both).
        alpha: what the fit to the picture counts in the first sentence; 0 leaves it out.
        until: where a sentence ends.
        sentence_tokens: where it ends at the latest.
        stop_before_flagged: ends the answer before a round in which every candidate is flagged.

    Raises:
        BadInput: a number out of range.
    """

    n: int = 5
    temperature: float = 1.0
    top_k: int = 50
    alpha: float = 1.0
    until: Until = "sentence"
    sentence_tokens: int = 70
    stop_before_flagged: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.n < 1 or self.sentence_tokens < 1 or self.alpha < 0 or self.temperature <= 0:
            raise BadInput(
                "n and sentence_tokens must be at least 1, alpha at least 0, temperature above 0."
            )

    def run(
        self, parts: Parts, case: Case, journal: Journal, *, prefix: str, resume: Any
    ) -> Aligning:
        """The best answer that begins with the prefix.

        Args:
            parts: engine and evaluators.
            case: the question.
            journal: takes every round.
            prefix: how the answer begins.
            resume: where the conversation can be gone on with; None to read it again.

        Returns:
            The answer with its prefix, and what was said about it when it was chosen.
        """
        text, used, finding = prefix, 0, None
        for sentence in range(1, MAX_ROUNDS + 1):
            request = self._request(case, journal, sentence, text, used, resume)
            reply = journal.ask(parts.engine, "candidates", request)
            made, findings = self._round(parts, case, journal, sentence, text, reply.continuations)
            journal.rounds.append(made)
            if made.chosen is None:
                break
            winner, finding = reply.continuations[made.chosen], findings[made.chosen]
            text, resume, used = text + winner.text, winner.resume, used + winner.tokens
            if winner.finish == "end" or used >= case.max_tokens:
                break
        return Aligning(text=journal.said(text), finding=finding)

    def _request(
        self, case: Case, journal: Journal, sentence: int, text: str, used: int, resume: Any
    ) -> Request:
        """Asks for the candidates of one sentence."""
        seed = None if case.seed is None else case.seed + sentence
        return Request(
            messages=case.messages,
            prefill=text,
            n=self.n,
            sampling=Sampling(temperature=self.temperature, top_k=self.top_k, seed=seed),
            until=self.until,
            max_tokens=min(self.sentence_tokens, case.max_tokens - used),
            timeout=journal.left(),
            resume=resume,
        )

    def _round(
        self,
        parts: Parts,
        case: Case,
        journal: Journal,
        sentence: int,
        text: str,
        candidates: Sequence[Continuation],
    ) -> tuple[Round, list[Finding]]:
        """Scores the candidates of one sentence and chooses."""
        ended = any(each.finish == "end" for each in candidates)
        asks = self.alpha > 0 and parts.images is not None and sentence > 1 and not ended
        weight = self.alpha / sentence if asks else 0.0
        with journal.timed("evaluate candidates"):
            findings = self._findings(parts, case, text, candidates)
            fits: Sequence[float | None] = [None] * len(candidates)
            if asks and parts.images is not None:
                said = [each.text for each in candidates]
                fits = [float(fit) for fit in parts.images.evaluator.fits(case.image, said)]
        rewards = [safety(finding) for finding in findings]
        scored = [
            Candidate(
                text=each.text,
                finish=each.finish,
                reward=reward,
                fit=fit,
                score=None if reward is None else reward + weight * (fit or 0.0),
                flagged=finding.flagged,
            )
            for each, finding, reward, fit in zip(candidates, findings, rewards, fits, strict=True)
        ]
        usable = [
            place
            for place, each in enumerate(scored)
            if each.score is not None and not (self.stop_before_flagged and each.flagged)
        ]
        if not usable and not self.stop_before_flagged:
            raise RunFailed("No candidate could be scored, so none can be chosen.")
        best = max(usable, key=lambda place: scored[place].score or 0.0) if usable else None
        made = Round(sentence=sentence, weight=weight, candidates=tuple(scored), chosen=best)
        return made, findings

    def _findings(
        self, parts: Parts, case: Case, text: str, candidates: Sequence[Continuation]
    ) -> list[Finding]:
        """Scores of the whole answers so far, each with one candidate."""
        check = parts.answer_check()
        if parts.candidates is not None:
            check = TextCheck(evaluator=parts.candidates, threshold=check.threshold)
        exchanges = [
            Exchange(question=case.question, answer=(text + each.text).strip())
            for each in candidates
        ]
        return check.examine("deep", exchanges)


def safety(finding: Finding) -> float | None:
    """A finding's score, turned so that higher is safer."""
    score = finding.verdict.score
    if score.value is None:
        return None
    return score.value if score.higher_is == "less" else -score.value
