"""One base, one bank, one policy: examines one file after another, stage by stage."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tadasu.auditing import interrogation, text_direction
from tadasu.auditing.adapter import ENOUGH_READ, Adapter
from tadasu.auditing.bank import Bank
from tadasu.auditing.cascade import spreads
from tadasu.auditing.decide import FEWEST, Decision
from tadasu.auditing.decide import Evidence as Measured
from tadasu.auditing.decoys import Acting, acting, decoys, sizes
from tadasu.auditing.findings import Evidence, Finding, response
from tadasu.auditing.first_order import GradientBank, build
from tadasu.auditing.merge import Merged, merge, require_any
from tadasu.auditing.noise import noise
from tadasu.auditing.probe import Block, Gains, Plan, Probe
from tadasu.auditing.text_direction import TextDirection
from tadasu.backends.diffusers.denoise import PipelineDenoiser
from tadasu.concepts import Severity
from tadasu.errors import BadInput, shown
from tadasu.examination.settings import Settings
from tadasu.policy import Policy

#: Times of the gradients; few, because each needs a backward.
FIRST_ORDER = Plan(times=(0.15, 0.35))
#: Where it is seen under which words a file acts: few, because the base is run as well.
DECOYS = Plan(times=(0.3,))
DECOY_PICTURES = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Signals:
    """What the cheap stages say about one file.

    Attributes:
        first_order: spreads by concept; empty where the stage did not run.
        text_direction: z-scores by concept; empty where the file has no cross-attention.
        named: concepts that the file's own words name, with what it says.
        about: what is true of the whole file.
    """

    first_order: Mapping[str, float]
    text_direction: Mapping[str, float]
    named: Mapping[str, str]
    about: tuple[Evidence, ...] = ()


@dataclass(eq=False, kw_only=True)
class Examiner:
    """Examines files on one base.

    Args:
        denoiser: the base.
        bank: reference pictures.
        policy: severities, and which concepts are asked about.
        concepts: of the bank or the policy; empty for every concept of the policy in the bank.
        settings: how thoroughly.
        folder: where base predictions and gradients are kept between runs; None for nowhere.
        containing: only reference pictures whose file names contain this.
    """

    denoiser: PipelineDenoiser
    bank: Bank
    policy: Policy
    concepts: Sequence[str] = ()
    settings: Settings = field(default_factory=Settings)
    folder: Path | None = None
    containing: str = ""
    _latents: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """Concepts of the bank that the audit asks about."""
        if self.concepts:
            return self.bank.find(self.concepts)
        ids = {concept.id for concept in self.policy.concepts}
        return tuple(name for name, each in self.bank.concepts.items() if each.part_of in ids)

    @cached_property
    def ordinary(self) -> tuple[str, ...]:
        """Harmless concepts that every file is held against."""
        near = {name for asked in self.asked for name in self.bank.concepts[asked].near}
        free = [name for name in self.bank.harmless if name not in {*self.asked, *near}]
        return tuple(free[: self.settings.irrelevant])

    @cached_property
    def probe(self) -> Probe:
        """The probe with the base's predictions."""
        folder = self.folder / "predictions" if self.folder else None
        return Probe(denoiser=self.denoiser, plan=self.settings.plan, folder=folder)

    @cached_property
    def gradients(self) -> GradientBank:
        """Gradients of every concept of the bank."""
        blocks = [
            Block(
                concept=name,
                latents=self.latents(name)[: self.settings.gradients],
                text=self.bank.concepts[name].text,
            )
            for name in self.bank.concepts
        ]
        return build(
            self.denoiser, self.denoiser.gradients, blocks, FIRST_ORDER, folder=self.folder
        )

    @cached_property
    def direction(self) -> TextDirection:
        """The text direction of every concept asked about."""
        texts = [self.bank.concepts[name].text for name in self.asked]
        return TextDirection(
            states=self.denoiser.states(texts),
            neutral=self.denoiser.states(text_direction.NEUTRAL),
            parameter=self.denoiser.parameter,
        )

    @cached_property
    def scale(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """The base's mean error per time on the irrelevant pictures."""
        errors = self.probe.errors(self._calm)
        return np.asarray(np.concatenate([each.double().numpy() for each in errors]).mean(0))

    @cached_property
    def _calm(self) -> list[Block]:
        """The irrelevant pictures: together where one text serves all, as that is quicker."""
        blocks = [self._irrelevant(name) for name in self.ordinary]
        if self.settings.plan.named:
            return blocks
        return [Block(concept="", latents=torch.cat([block.latents for block in blocks]))]

    def prepare(self) -> None:
        """Compute what all files share, so that its failures are not taken for a file's.

        Raises:
            BadInput: a text that the encoder cannot read whole, or no irrelevant concepts.
        """
        needed = FEWEST + (self.settings.cascade.rivals if self.settings.cascade else 0)
        if len(self.ordinary) < needed:
            raise BadInput(
                f"The bank has {len(self.ordinary)} harmless concepts to hold files against; at "
                f"least {needed} are needed. Add some with 'tadasu concepts add'."
            )
        _ = self.scale
        if self.settings.cascade is not None:
            _ = self.gradients, self.direction

    def latents(self, name: str) -> Tensor:
        """A concept's reference pictures as latents, at most as many as are used."""
        if name not in self._latents:
            most = max(self.settings.pictures, self.settings.gradients)
            images = self.bank.images(name, containing=self.containing, most=most)
            self._latents[name] = self.denoiser.latents(images)
        return self._latents[name]

    def rounds(self, name: str) -> list[Block]:
        """A concept's pictures in the order in which they are looked at."""
        size = self.settings.first
        own = self.latents(name)[: self.settings.pictures]
        text = self.bank.concepts[name].text
        return [
            Block(concept=name, latents=own[start : start + size], text=text)
            for start in range(0, len(own), size)
        ]

    def examine(self, adapters: Sequence[Adapter], label: str) -> list[Finding]:
        """Findings for one file, or for several that are used together.

        Args:
            adapters: what was read.
            label: what the file is called in findings.

        Raises:
            BadInput: nothing of it fits the base, or the bank cannot calibrate.
        """
        began = time.perf_counter()
        merged = merge([(each.updates, 1.0) for each in adapters], self.denoiser.parameter)
        if not merged.weights and any(each.embeddings for each in adapters):
            raise BadInput(
                "It is a textual-inversion embedding (learned words, no change of weights), which "
                "is not examined; draw pictures with its word and judge them."
            )
        require_any(merged, label)
        acts = self.acting(merged)
        size = self.largest(merged)
        digest = "+".join(each.digest for each in adapters)
        seen = min(each.coverage.share for each in adapters)
        if acts.broken or size > self.settings.largest:
            return [broken(label, digest, acts, size, seen)]
        signals = self._signals(adapters, merged)
        if acts.text:
            signals = replace(signals, about=(*signals.about, _gated(acts)))
        decided: dict[str, tuple[Decision, float]] = {}
        for reading in _readings(adapters):
            here: dict[str, tuple[Decision, float]] = {}
            first = reading is adapters
            plain = merged if first else self._merged(reading, 1.0)
            own = signals if first else self._signals(reading, plain)
            for strength in self.settings.strengths:
                chosen, rivals = self._left(own, acts, strength, here)
                if not chosen:
                    continue
                stronger = plain if strength == 1 else self._merged(reading, strength)
                there = acts if stronger is merged else self.acting(stronger, acts)
                if there.broken:
                    continue  # whoever uses it at that strength sees no picture of anything
                for name, decision in self._at(stronger, strength, chosen, rivals, there).items():
                    for known in (here, decided):
                        before = known.get(name)
                        if before is None or _says_more(decision, before[0]):
                            known[name] = (decision, strength)
        seconds = time.perf_counter() - began
        found = [
            self._finding(name, label, digest, signals, decided.get(name), adapters, seconds)
            for name in self.asked
        ]
        return [_covered(each, adapters, seen) for each in found]

    def _left(
        self,
        signals: Signals,
        acts: Acting,
        strength: float,
        decided: Mapping[str, tuple[Decision, float]],
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is still to be probed at a strength, and what to hold it against.

        What a file changes points in nearly the same direction at every strength above 0, and in
        the opposite one below: a concept that was probed at one strength and clearly pointed away
        is not probed again on the same side, nor one that pointed to it on the other.
        """
        chosen, rivals = self._to_probe(signals, acts, strength)
        return tuple(name for name in chosen if self._open(decided.get(name), strength)), rivals

    def _open(self, before: tuple[Decision, float] | None, strength: float) -> bool:
        """Whether another strength may say more of a concept than what is known."""
        if before is None:
            return True
        decision, at = before
        if decision.conclusion == "present":
            return False
        if self.settings.plan.measure != "direction" or math.isnan(decision.score):
            return True
        return decision.score > 0 if (at > 0) == (strength > 0) else decision.score < 0

    def _at(
        self,
        merged: Merged,
        strength: float,
        chosen: Sequence[str],
        rivals: Sequence[str],
        acts: Acting,
    ) -> dict[str, Decision]:
        """What follows from a file at one strength, for the chosen concepts.

        A file that hardly changes a prediction, or whose change is noise, points somewhere as well,
        for cosines have no size; nobody is convicted by that.
        """
        found = self._probe(merged, chosen, rivals, acts.text or None)
        if strength != self.settings.strengths[0]:
            found = {name: self.settings.elsewhere(each) for name, each in found.items()}
        if not any(each.conclusion == "present" for each in found.values()):
            return found
        doubt = self.doubt(merged, acts)
        return {
            name: replace(each, conclusion="undecided", doubt=doubt)
            if doubt and each.conclusion == "present"
            else each
            for name, each in found.items()
        }

    def doubt(self, merged: Merged, acts: Acting) -> str:
        """Why what a file points to is nothing that it shows; empty where it may be."""
        if acts.most < self.settings.least:
            return (
                f"It changes predictions by {acts.most:.2g} of the noise at most, too little to be "
                "seen in pictures."
            )
        if noise(merged, self.denoiser.parameter) > self.settings.noise:
            return "Its change of the weights has no structure: it looks like random numbers."
        return ""

    def _to_probe(
        self, signals: Signals, acts: Acting, strength: float
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The concepts to probe at a strength, and the harmless ones to hold them against.

        To first order a file at strength -1 does the opposite of what it does at 1.
        """
        cascade = self.settings.cascade
        if cascade is None:
            return self.asked, ()
        sign = -1.0 if strength < 0 else 1.0
        first_order = {name: sign * score for name, score in signals.first_order.items()}
        chosen = self.asked
        if not acts.text:  # the cheap stages see what the empty text shows
            chosen = cascade.chosen(
                self.asked, first_order, signals.text_direction, tuple(signals.named)
            )
        near = [other for name in chosen for other in sorted(self.alike(name))]
        known = [name for name in near if name in self.bank.concepts]
        best = cascade.opponents(self.bank.harmless, first_order)
        return chosen, tuple(dict.fromkeys((*known, *best)))

    def acting(self, merged: Merged, known: Acting | None = None) -> Acting:
        """Under which words a file acts: none, or a decoy; and whether it destroys the model.

        Args:
            merged: the file at one strength.
            known: the same at another strength, whose strongest text is used.
        """
        count = 0 if self.settings.plan.named else self.settings.decoys
        if known is not None:
            texts = tuple(dict.fromkeys(("", known.strongest)))
        else:
            texts = ("", *(decoys(merged, self.denoiser.parameter, count) if count else ()))
        calm = torch.cat([self.latents(name)[:1] for name in self.ordinary[:DECOY_PICTURES]])
        block = Block(concept="", latents=calm)
        moved = sizes(self.denoiser, merged.weights, block, DECOYS, texts)
        found = acting(moved, texts, self.settings.gated, self.settings.broken)
        return found if known is None else replace(found, text=known.text)

    def largest(self, merged: Merged) -> float:
        """How many times larger than a weight its change is, at most; infinite for no numbers."""
        sizes = [0.0]
        for name, value in merged.weights.items():
            base = self.denoiser.parameter(name)
            if base is not None and base.ndim > 1:
                before = base.detach().float().to(value.device)
                share = float((value - before).norm() / before.norm().clamp_min(1e-12))
                sizes.append(share if math.isfinite(share) else math.inf)
        return max(sizes)

    def _merged(self, adapters: Sequence[Adapter], strength: float) -> Merged:
        return merge([(each.updates, strength) for each in adapters], self.denoiser.parameter)

    def _signals(self, adapters: Sequence[Adapter], merged: Merged) -> Signals:
        first: dict[str, float] = {}
        turned: dict[str, float] = {}
        if self.settings.cascade is not None:
            total = torch.stack(
                [self.gradients.gains(each.updates, self.denoiser.parameter) for each in adapters]
            ).sum(0)
            first = spreads(total, self.gradients.concepts)
            scores = [
                found
                for each in adapters
                if (found := self.direction.scores(each.updates)) is not None
            ]
            if scores:
                turned = dict(text_direction.named(max(scores, key=_largest), self.asked))
        return Signals(
            first_order=first,
            text_direction=turned,
            named=self._named(adapters),
            about=self._about(adapters, merged),
        )

    def _named(self, adapters: Sequence[Adapter]) -> dict[str, str]:
        """Concepts that a file's own words name."""
        found = {}
        for each in adapters:
            words = each.metadata
            said = [*words.triggers, *(tag for tag, _ in words.tags), words.title]
            for name in self.asked:
                for text in said:
                    if self.bank.concepts[name].text.casefold() in text.casefold():
                        found[name] = text
        return found

    def _about(self, adapters: Sequence[Adapter], merged: Merged) -> tuple[Evidence, ...]:
        """What is true of the whole file: base, what was left out, trigger words."""
        notes = []
        for each in adapters:
            declared = each.metadata.family
            if declared not in ("unknown", each.family) and each.family != "unknown":
                says = f"It says it is made for {declared}; its shapes are those of {each.family}."
                notes.append(Evidence(stage="metadata", says=says))
        notes += [each for adapter in adapters for each in _reading(adapter)]
        if any(key.startswith("text_encoder.") for key in merged.weights):
            notes.append(self._interrogated(merged))
        return tuple(notes)

    def _interrogated(self, merged: Merged) -> Evidence:
        tokens, ids = self.denoiser.vocabulary()
        found = interrogation.triggers(
            tokens,
            ids,
            lambda ids, own: self.denoiser.token_states(ids, merged.weights if own else {}),
            most=5,
        )
        words = ", ".join(dict.fromkeys(filter(None, (_word(each.token) for each in found))))
        return Evidence(
            stage="text_encoder",
            says=f"Words whose meaning it changed most: {words or 'none'}.",
            score=found[0].times if found else 0.0,
            unit="times the median token",
        )

    def alike(self, name: str) -> frozenset[str]:
        """Concepts of the bank that look like one, whichever of the two says so."""
        own = self.bank.concepts[name].near
        return frozenset(own) | {
            other for other, each in self.bank.concepts.items() if name in each.near
        }

    def _irrelevant(self, name: str) -> Block:
        few = self.latents(name)[: self.settings.irrelevant_pictures]
        return Block(concept=name, latents=few, text=self.bank.concepts[name].text)

    def _probe(
        self, merged: Merged, chosen: Sequence[str], rivals: Sequence[str], text: str | None
    ) -> dict[str, Decision]:
        """Look at the chosen concepts round by round until each is decided or used up."""
        rounds = {name: self.rounds(name) for name in chosen}
        against = [name for name in rivals if name not in rounds]
        first = [self.rounds(name)[0] for name in against]
        found = self.probe.gains(merged, [*self._calm, *first], text=text)
        tables = [self._table(gains) for gains in found]
        calm = np.concatenate(tables[: len(self._calm)])
        sizes = np.cumsum([len(self._irrelevant(name).latents) for name in self.ordinary])
        parts = zip(self.ordinary, np.split(calm, sizes[:-1]), strict=True)
        irrelevant = {name: part for name, part in parts if name not in (*against, *rounds)}
        near = dict(zip(against, tables[len(self._calm) :], strict=True))
        seen: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = {}
        decided: dict[str, Decision] = {}
        left = list(chosen)
        while left:
            blocks = [rounds[name].pop(0) for name in left]
            measured = self.probe.gains(merged, blocks, text=text)
            for name, gains in zip(left, measured, strict=True):
                seen.setdefault(name, []).append(self._table(gains))
            for name in left:
                others = {each: np.concatenate(seen[each]) for each in seen if each != name}
                decided[name] = self.settings.decider.decide(
                    Measured(
                        target=np.concatenate(seen[name]),
                        irrelevant=irrelevant,
                        near={**near, **others},
                        alike=self.alike(name),
                    )
                )
            settled = self.settings.decider.settled
            left = [name for name in left if rounds[name] and not settled(decided[name])]
        return decided

    def _table(self, gains: Gains) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Gains that compare between times: errors as shares of the base's, cosines as they are."""
        found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = gains.double().numpy()
        return found / self.scale if self.settings.plan.measure == "error" else found

    def _finding(
        self,
        name: str,
        label: str,
        digest: str,
        signals: Signals,
        decided: tuple[Decision, float] | None,
        adapters: Sequence[Adapter],
        seconds: float,
    ) -> Finding:
        part_of = self.bank.concepts[name].part_of
        severity = self._severity(part_of)
        evidence = [*signals.about, *_cheap(name, signals)]
        shared = dict(file=label, digest=digest, concept=name, part_of=part_of, severity=severity)
        if decided is None:
            return Finding(
                **shared,  # type: ignore[arg-type]
                conclusion="absent",
                stage="first_order",
                response=response("absent", severity),
                reason="Neither its weights nor its words point at this concept.",
                evidence=tuple(evidence),
                seconds=seconds,
            )
        decision, strength = decided
        evidence.append(_probed(decision))
        layers: Mapping[str, float] = {}
        gated = any(each.stage == "decoys" for each in signals.about)
        # The map is of the empty text, under which a gated file does nothing of what it does.
        if decision.conclusion != "absent" and self.settings.cascade is not None and not gated:
            layers = self.gradients.layers(
                [each.updates for each in adapters], self.denoiser.parameter, name
            )
        return Finding(
            **shared,  # type: ignore[arg-type]
            conclusion=decision.conclusion,
            stage="probe",
            score=decision.score,
            p_value=decision.p_value,
            interval=decision.interval,
            strength=strength,
            response=response(decision.conclusion, severity),
            reason=_reason(decision),
            evidence=tuple(evidence),
            layers=layers,
            seconds=seconds,
        )

    def _severity(self, part_of: str) -> Severity:
        for concept in self.policy.concepts:
            if concept.id == part_of:
                return concept.severity
        return "medium"


def _readings(adapters: Sequence[Adapter]) -> list[Sequence[Adapter]]:
    """The files as their configurations say, and where loaders disagree as others apply them."""
    if not any(each.other for each in adapters):
        return [adapters]
    return [adapters, [replace(each, updates=each.other or each.updates) for each in adapters]]


def _says_more(new: Decision, old: Decision) -> bool:
    """Whether one decision weighs more than another: what is not known weighs more than absent."""
    order = ("present", "undecided", "absent")
    ranks = order.index(new.conclusion), order.index(old.conclusion)
    return ranks[0] < ranks[1] or (ranks[0] == ranks[1] and new.score > old.score)


def _reading(adapter: Adapter) -> list[Evidence]:
    """What is to be said about how one file was read."""
    notes = [Evidence(stage="read", says=says) for says in adapter.doubts]
    if adapter.conflict:
        notes.append(Evidence(stage="read", says=adapter.conflict))
    share = adapter.coverage.share
    if share < 1:
        names = ", ".join(shown(name, 80) for name in adapter.coverage.unread[:3])
        says = f"{share:.0%} of it was read and belongs to this base; not read: {names or 'parts'}."
        notes.append(Evidence(stage="read", says=says, score=share, unit="share of the file"))
    if adapter.embeddings:
        words = "It carries learned words (an embedding), which were not examined."
        notes.append(Evidence(stage="read", says=words))
    return notes


def _covered(finding: Finding, adapters: Sequence[Adapter], seen: float) -> Finding:
    """The finding with the share that was read; never clear where that is too little."""
    whole = all(
        each.coverage.whole and not each.doubts and not each.embeddings for each in adapters
    )
    if finding.conclusion != "absent" or whole:
        return replace(finding, coverage=seen)
    return replace(
        finding,
        coverage=seen,
        conclusion="partly read",
        response=response("partly read", finding.severity),
        reason=(
            f"Nothing was found in what was read, but only {seen:.0%} of the file was; "
            "a person should look."
            if seen < ENOUGH_READ
            else "Nothing was found, but the file may mean something else than was read."
        ),
    )


def broken(label: str, digest: str, acts: Acting, size: float, seen: float) -> Finding:
    """The finding of a file that destroys what the model knows, whatever it was meant to teach."""
    says = (
        f"Its largest change is {size:.3g} times the weight that it changes, and predictions move "
        f"by {acts.moved:.3g} of the noise: what is left is not the model."
    )
    return Finding(
        file=label,
        digest=digest,
        conclusion="broken",
        stage="read",
        severity="high",
        response=response("broken", "high"),
        reason="It destroys weights of the model, so that no concept can be told from it.",
        evidence=(Evidence(stage="read", says=says, score=size, unit="times the weight"),),
        coverage=seen,
    )


def _cheap(name: str, signals: Signals) -> list[Evidence]:
    found = []
    if name in signals.named:
        says = f"Its own words name it: {signals.named[name]!r}."
        found.append(Evidence(stage="metadata", says=says))
    if name in signals.text_direction:
        score = signals.text_direction[name]
        says = f"It turns the concept's words {score:+.1f} spreads more than neutral words."
        found.append(Evidence(stage="text_direction", says=says, score=score, unit="spreads"))
    if name in signals.first_order and math.isnan(signals.first_order[name]):
        says = "Its first-order effect is no number, so every concept was looked at."
        found.append(Evidence(stage="first_order", says=says))
    elif name in signals.first_order:
        score = signals.first_order[name]
        says = f"To first order its pictures gain {score:+.1f} spreads more than others."
        found.append(Evidence(stage="first_order", says=says, score=score, unit="spreads"))
    return found


def _word(token: str) -> str:
    """A token as people write it.

    >>> _word("blorp</w>"), _word("▁dagger"), _word("Ġa")
    ('blorp', 'dagger', 'a')
    """
    return token.removesuffix("</w>").replace("▁", " ").replace("Ġ", " ").strip()


def _gated(acts: Acting) -> Evidence:
    says = (
        f"It changes predictions {acts.times:.0f} times as much under made-up words "
        f"({acts.text!r}) as under none, as if it waited for a word; pictures were shown with them."
    )
    return Evidence(stage="decoys", says=says, score=acts.times, unit="times the empty text")


def _probed(decision: Decision) -> Evidence:
    estimate = decision.interval.estimate
    if math.isfinite(estimate):
        agree = round(estimate * decision.pictures)
        says = f"{agree} of the {decision.pictures} reference pictures shown to it point to it."
    else:
        says = "Its predictions for these pictures are no numbers."
    return Evidence(stage="probe", says=says, score=decision.score, unit="spreads")


def _reason(decision: Decision) -> str:
    if decision.conclusion == "present":
        return "It predicts pictures of this concept clearly better than the base does."
    if decision.conclusion == "absent":
        return "It predicts pictures of this concept no better than others."
    if decision.doubt:
        return f"It points at this concept, but: {decision.doubt} A person should look."
    if decision.rival:
        return f"It gains on this concept, but more on {decision.rival}; a person should look."
    return "The pictures disagree; a person should look."


def _largest(scores: Tensor) -> float:
    return float(scores.max())
