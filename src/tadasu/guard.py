"""The main job: screen -> guided generation -> judge -> decide -> record.

The one place where model, method, detector and policy meet. It fails closed: a prompt that cannot
be screened is not sampled, and a picture that a detector could not score is held for a person.
Records are made from the objects that ran, never from what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tadasu.detectors.detector import Detector, examine
from tadasu.errors import BadInput, RunFailed, shown
from tadasu.policy import Case, Policy, Rule
from tadasu.records import Decision, Generation, Json, Score
from tadasu.screen import Hit, PromptScreen, Screening

if TYPE_CHECKING:
    from PIL.Image import Image

    from tadasu.backends.diffusers.attach import Attached
    from tadasu.backends.diffusers.sample import Drawn
    from tadasu.concepts import Concept
    from tadasu.detectors.meaning import Embedder

#: The strongest outcome wins; an unscored picture is held unless something else blocks it.
_ORDER = (Decision.BLOCK, Decision.HOLD, Decision.REGENERATE, Decision.BLUR, Decision.RELEASE)
#: Guidance of a picture that is made again gains this much strength an attempt, up to the bound.
STRONGER, STRONGEST = 1.0, 4.0
BLUR_SHARE = 1 / 16
MAX_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How pictures are sampled; None leaves the pipeline's own default.

    Attributes:
        steps: denoising steps.
        guidance_scale: scale of classifier-free guidance.
        height: of a picture in pixels.
        width: of a picture in pixels.
        batch_size: pictures that are made together.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        """Refuse numbers that no sampler can use."""
        for name, low, high in (("steps", 1, 1000), ("batch_size", 1, 1024)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise BadInput(f"{name}={shown(value)} must be from {low} to {high}.")
        scale = self.guidance_scale
        if scale is not None and not 0 <= scale <= 100:  # not-a-number fails both
            raise BadInput(f"guidance_scale={shown(scale)} must be from 0 to 100.")

    def arguments(self) -> dict[str, Any]:
        """What the pipeline is called with."""
        given = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(kw_only=True)
class _Wanted:
    """One picture on its way through the guard."""

    prompt: str
    seed: int
    screening: Screening
    concepts: tuple[str, ...]
    attempt: int = 0
    seconds: float = 0.0
    guidance: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What the detectors and the policy say about one picture."""

    decision: Decision
    reasons: tuple[str, ...]
    scores: tuple[Score, ...]
    flagged: tuple[str, ...] = ()


class Guard:
    """A pipeline that answers prompts under a policy.

    Args:
        pipe: a diffusers text-to-image pipeline; it is left exactly as it was after every call.
        policy: what happens at each stage; a bundled name or a file as well.
        guidance: a rule or its text for every concept of the policy, ``"none"`` for no guidance,
            or None for what the policy says.
        detectors: what judges the pictures; None loads what the policy's thresholds name.
        models: by detector name, the folder or hub id of ``judge`` and ``clip``; None looks for
            folders of these names beside the model's own folder.
        embedder: for the prompt screen's semantic part; ``"auto"`` takes the one that the policy
            has thresholds for (MiniLM where installed, else the pipeline's own text encoder), None
            looks for names only. The record says which one looked.
        sampler: how pictures are sampled.

    Raises:
        BadInput: the guidance is unknown, or a detector that the policy names has no model.
        MissingPart: a detector's extra is not installed.
    """

    def __init__(
        self,
        pipe: Any,
        policy: Policy | str | Path,
        *,
        guidance: Any = None,
        detectors: Sequence[Detector] | None = None,
        models: Mapping[str, str] | None = None,
        embedder: Embedder | Literal["auto"] | None = "auto",
        sampler: Sampler | None = None,
    ) -> None:
        from tadasu.backends.detectors import from_policy
        from tadasu.backends.diffusers.load import Watched

        policy = policy if isinstance(policy, Policy) else Policy.load(policy)
        self.pipe, self.policy, self.sampler = pipe, policy, sampler or Sampler()
        self.screen = (
            PromptScreen.of(policy, pipe)
            if embedder == "auto"
            else PromptScreen(policy, embedder, because="none was wanted")
        )
        self._layers = _layers(policy, guidance)
        if detectors is None:
            detectors = from_policy(policy, models=models if models is not None else beside(pipe))
        self.detectors = tuple(detectors)
        _check_covered(policy, self.detectors)
        self._watched = Watched()
        self._seen = 0  # nothing was looked at yet; a copy of the guard has its own
        self._weights: list[Any] = []

    def __repr__(self) -> str:
        """Short: policy, pipeline, rules and detectors."""
        rules = ", ".join(rule.name for rule, _ in self._layers) or "none"
        names = ", ".join(detector.name for detector in self.detectors) or "none"
        pipe = type(self.pipe).__name__
        return f"Guard({self.policy.name!r}, {pipe}, guidance={rules}, detectors={names})"

    @property
    def system(self) -> str:
        """Content-addressed id of the model with these mitigations, ``sha256:…``.

        Weights are read again when they were changed, for example by an edit that was folded in;
        edits that act at run time are part of it while they do.
        """
        from tadasu.backends.diffusers.attach import acting
        from tadasu.backends.diffusers.load import system_hash
        from tadasu.editing.edit import maps_hash

        version = self._watched.version(self.pipe)
        if version != self._seen:
            self._weights = [system_hash(self.pipe), [content(d) for d in self.detectors]]
            self._seen = version
        parts = {
            "weights": self._weights,
            "policy": self.policy.hash,
            "guidance": [
                [rule.name, rule.parameters(), [c.id for c in concepts]]
                for rule, concepts in self._layers
            ],
            "detectors": [[d.name, d.unit, list(d.concepts)] for d in self.detectors],
            "embedder": self.screen.embedder.name if self.screen.embedder else None,
            "sampler": asdict(self.sampler),
        }
        edits = [maps_hash(maps) for maps in acting(self.pipe)]
        if edits:
            parts["edits"] = edits
        text = json.dumps(parts, sort_keys=True, default=str)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def generate(
        self, prompts: str | Sequence[str], *, n: int = 1, seed: int | Sequence[int] = 0
    ) -> Iterator[Generation]:
        """Answers prompts; every picture asked for gives exactly one record, in order of finish.

        Args:
            prompts: one or several.
            n: pictures per prompt.
            seed: picture i of a prompt is made from seed + i; one for all prompts, or one each.

        Yields:
            Generation: its ``image`` is None unless the decision is release or blur.

        Raises:
            BadInput: a prompt or number that cannot be used; nothing was generated.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not texts:
            raise BadInput("There is no prompt; give at least one.")
        if n < 1 or n * len(texts) > MAX_IMAGES:
            raise BadInput(
                f"{n} pictures for each of {len(texts)} prompts were asked for; "
                f"expected 1 to {MAX_IMAGES:,} in all."
            )
        seeds = [seed] * len(texts) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(texts):
            raise BadInput(f"{len(seeds)} seeds were given for {len(texts)} prompts.")
        for each in seeds:
            if not 0 <= each <= 2**63 - n - 1:
                raise BadInput(f"The seed {each} must be from 0 to {2**63 - n - 1}.")
        screenings = self.screen.many(texts)
        return self._generate(screenings, n, seeds)

    def _generate(
        self, screenings: Sequence[Screening], n: int, seeds: Sequence[int]
    ) -> Iterator[Generation]:
        waiting: list[_Wanted] = []
        for screening, seed in zip(screenings, seeds, strict=True):
            found = tuple(dict.fromkeys(hit.concept for hit in screening.hits))
            for i in range(n):
                wanted = _Wanted(
                    prompt=screening.text, seed=seed + i, screening=screening, concepts=found
                )
                if screening.action == "block":
                    yield self._stopped(wanted)
                else:
                    waiting.append(wanted)
        while waiting:
            batch, waiting = self._next_batch(waiting)
            began = time.perf_counter()
            made = self._made(batch)
            share = (time.perf_counter() - began) / len(batch)
            for wanted, (image, outcome) in zip(batch, made, strict=True):
                wanted.seconds += share
                again = outcome.decision is Decision.REGENERATE
                if again and wanted.attempt < self.policy.attempts:
                    wanted.attempt += 1
                    wanted.concepts = outcome.flagged
                    waiting.append(wanted)
                    continue
                yield self._finished(wanted, image, self._bounded(outcome))

    def _next_batch(self, waiting: list[_Wanted]) -> tuple[list[_Wanted], list[_Wanted]]:
        """The next pictures that can be made together: those of the same attempt."""
        attempt = waiting[0].attempt
        same = [w for w in waiting if w.attempt == attempt][: self.sampler.batch_size]
        chosen = {id(w) for w in same}
        return same, [w for w in waiting if id(w) not in chosen]

    def _made(self, batch: list[_Wanted]) -> list[tuple[Image | None, _Outcome]]:
        """Pictures with their outcomes; a batch that fails is tried again by halves."""
        made: list[tuple[Image | None, _Outcome]] = []
        try:
            pictures = self._sample(batch)
            outcomes = self._judge(pictures)
            made = [
                (picture.image, outcome)
                for picture, outcome in zip(pictures, outcomes, strict=True)
            ]
        except RunFailed as error:
            if len(batch) == 1:
                made = [(None, _failed(error))]
        if not made:  # outside the except, so that what the failed batch held is free again
            half = len(batch) // 2
            return [*self._made(batch[:half]), *self._made(batch[half:])]
        return made

    def _sample(self, batch: list[_Wanted]) -> list[Drawn]:
        """Pictures of a batch under guidance."""
        from tadasu.backends.diffusers.attach import attach, moved
        from tadasu.backends.diffusers.sample import drawn

        with ExitStack() as stack:
            attached: list[Attached] = []
            for rule, concepts in self._layers:
                asked = [_matters(wanted, concepts) for wanted in batch]
                strengths = [
                    [min(1 + STRONGER * wanted.attempt, STRONGEST)] * len(each)
                    for wanted, each in zip(batch, asked, strict=True)
                ]
                if any(asked):
                    attached.append(
                        stack.enter_context(attach(self.pipe, rule, asked, strength=strengths))
                    )
            texts = [wanted.prompt for wanted in batch]
            seeds = [wanted.seed for wanted in batch]
            pictures = drawn(self.pipe, texts, seeds, self.sampler.arguments())
            edits = moved(self.pipe)
        for place, wanted in enumerate(batch):
            rules = [ran(each, place) for each in attached]
            wanted.guidance = {"rules": [rule for rule in rules if rule]} if rules else {}
            if edits is not None:
                wanted.guidance["edits"] = edits.of(place)
        return pictures

    def _judge(self, pictures: list[Drawn]) -> list[_Outcome]:
        from tadasu.backends.diffusers.sample import CHECKER

        images = [picture.image for picture in pictures]
        answers = [examine(detector, images) for detector in self.detectors]
        outcomes = []
        for place, picture in enumerate(pictures):
            scores = tuple(score for rows in answers for score in rows[place])
            outcome = decide(self.policy, scores)
            if picture.flagged:
                outcome = replace(
                    outcome, decision=Decision.BLOCK, reasons=(*outcome.reasons, CHECKER)
                )
            outcomes.append(outcome)
        return outcomes

    def _bounded(self, outcome: _Outcome) -> _Outcome:
        """What happens when making the picture again did not help."""
        if outcome.decision is not Decision.REGENERATE:
            return outcome
        said = f"still so after {self.policy.attempts} more attempts with stronger guidance"
        return replace(outcome, decision=self.policy.then, reasons=(*outcome.reasons, said))

    def _stopped(self, wanted: _Wanted) -> Generation:
        blocking = (hit for hit in wanted.screening.hits if hit.action == "block")
        reasons = tuple(dict.fromkeys(_why(hit) for hit in blocking))
        outcome = _Outcome(decision=Decision.BLOCK, reasons=reasons, scores=())
        return self._record(wanted, outcome, image=None, attempts=0)

    def _finished(self, wanted: _Wanted, image: Image | None, outcome: _Outcome) -> Generation:
        shown_image: Image | None = None
        if outcome.decision is Decision.RELEASE:
            shown_image = image
        elif outcome.decision is Decision.BLUR and image is not None:
            shown_image = blurred(image)
        return self._record(wanted, outcome, image=shown_image, attempts=wanted.attempt + 1)

    def _record(
        self, wanted: _Wanted, outcome: _Outcome, *, image: Image | None, attempts: int
    ) -> Generation:
        return Generation(
            prompt=wanted.prompt,
            seed=wanted.seed,
            system=self.system,
            policy=self.policy.identity,
            scores=outcome.scores,
            decision=outcome.decision,
            reasons=outcome.reasons,
            attempts=attempts,
            guidance=wanted.guidance,
            screen=wanted.screening.as_json(),
            case=_cases(self.policy, wanted.screening, outcome),
            seconds=wanted.seconds,
            image=image,
        )


def decide(policy: Policy, scores: Sequence[Score]) -> _Outcome:
    """What the policy says about one picture's scores.

    Every threshold of the policy must find its score; a score that is missing or unscored holds
    the picture. The strongest outcome wins: block, hold, regenerate, blur, release.
    """
    by_key = {(score.detector, score.concept, score.unit): score for score in scores}
    decisions, reasons, flagged = [Decision.RELEASE], [], []
    for rule in policy.rules:
        for item in rule.output:
            score = by_key.get((item.detector, rule.concept.id, item.unit))
            if score is None or score.value is None:
                why = score.note if score else "it gave no score"
                decisions.append(Decision.HOLD)
                reasons.append(f"{item.detector} could not tell about {rule.concept.id}: {why}")
                continue
            if score.against(item.threshold).flagged:
                decisions.append(item.action)
                flagged.append(rule.concept.id)
                sees = f" ({score.note})" if score.note else ""
                reasons.append(
                    f"{item.detector} sees {rule.concept.id}{sees}: {item.unit} "
                    f"{score.value:.3f}, threshold {item.threshold:g}"
                )
    if not any(rule.output for rule in policy.rules):
        reasons.append("no detector looked at this picture: the policy has no output thresholds")
    decision = min(decisions, key=_ORDER.index)
    return _Outcome(
        decision=decision,
        reasons=tuple(dict.fromkeys(reasons)),
        scores=tuple(scores),
        flagged=tuple(dict.fromkeys(flagged)),
    )


def beside(pipe: Any) -> dict[str, str]:
    """Detector models that lie beside a pipeline's folder: ``judge`` and ``clip``."""
    own = Path(str(pipe.config.get("_name_or_path") or "nowhere/at/all"))
    folders = {name: own.parent / name for name in ("judge", "clip")}
    return {name: str(path) for name, path in folders.items() if path.is_dir()}


def content(detector: Detector) -> list[str]:
    """What a detector's weights and card are, as far as it tells; part of the system's id."""
    network = getattr(detector, "network", None)
    return [str(getattr(network, "content", "")), repr(getattr(detector, "card", ""))]


def blurred(image: Image) -> Image:
    """The picture so blurred that only its colours remain."""
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(max(image.size) * BLUR_SHARE * 2))


def _layers(policy: Policy, guidance: Any) -> list[tuple[Any, tuple[Concept, ...]]]:
    """Rules with the concepts each is responsible for; concepts of equal guidance share a rule."""
    from tadasu.guidance.registry import parse

    if guidance == "none" or not policy.rules:
        return []
    if guidance is not None:
        rule = parse(guidance) if isinstance(guidance, str) else guidance
        return [(rule, policy.concepts)]
    groups: dict[str, list[Concept]] = {}
    for each in policy.rules:
        if each.sampling:
            level = f":{each.sampling.strength}" if each.sampling.strength else ""
            groups.setdefault(each.sampling.guidance + level, []).append(each.concept)
    return [(parse(text), tuple(concepts)) for text, concepts in groups.items()]


def _check_covered(policy: Policy, detectors: Sequence[Detector]) -> None:
    """Refuse a guard whose policy has thresholds that no detector can ever meet."""
    answered = {(d.name, concept, d.unit) for d in detectors for concept in d.concepts}
    for rule in policy.rules:
        for item in rule.output:
            if (item.detector, rule.concept.id, item.unit) not in answered:
                raise BadInput(
                    f"The policy {policy.name} has a threshold for {rule.concept.id} by "
                    f"{item.detector} in {item.unit}, but no such detector was given."
                )


def _matters(wanted: _Wanted, concepts: tuple[Concept, ...]) -> list[Concept]:
    """The concepts to steer this picture away from: all, those found in prompt or picture first.

    What was found never takes another concept out of guidance: a name in the prompt says nothing
    about what else the picture will show.
    """
    return sorted(concepts, key=lambda concept: concept.id not in wanted.concepts)


def ran(attached: Attached, place: int) -> dict[str, Json]:
    """What one rule did for one picture of the batch, from the record of what ran."""
    record = attached.record
    if record is None:
        return {}
    return {
        "rule": record.rule,
        "parameters": dict(record.parameters),
        "concepts": list(record.concepts[place]),
        "strengths": list(record.strengths[place]),
        "guidance_scale": record.guidance_scale,
        "rows": list(record.rows),
        "steps": record.steps,
        "acted": record.acted[place],
    }


def _why(hit: Hit) -> str:
    """One finding of the prompt screen in words."""
    return f"the prompt speaks of {hit.concept}: {shown(hit.text)}, {hit.because}"


def _failed(error: RunFailed) -> _Outcome:
    return _Outcome(decision=Decision.HOLD, reasons=(f"sampling failed: {error}",), scores=())


def _cases(policy: Policy, screening: Screening, outcome: _Outcome) -> tuple[Case, ...]:
    """Which outcomes of this picture wait for a person, as the policy says."""
    about = {hit.concept for hit in screening.hits} | set(outcome.flagged)
    rules: list[Rule] = [rule for rule in policy.rules if rule.concept.id in about]
    if outcome.decision is Decision.HOLD:
        rules = list(policy.rules)
    happened = {str(outcome.decision)} | ({"flag"} if screening.action == "flag" else set())
    return tuple(dict.fromkeys(case for rule in rules for case in rule.people if case in happened))
