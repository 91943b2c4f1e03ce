"""The guard end to end on the bundled model, and everything that must fail closed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tadasu import editing, world
from tadasu.errors import BadInput
from tadasu.guard import Guard, Sampler, blurred, decide
from tadasu.policy import Policy
from tadasu.records import Decision, Generation, Score
from tadasu.screen import PromptScreen

FAST = Sampler(steps=2, batch_size=4)


@dataclass
class Scripted:
    """A detector whose answers are given: value per call and picture, or a failure."""

    concepts: tuple[str, ...]
    values: list[float | None]
    name: str = "judge"
    unit: str = "probability"
    seen: list[int] = field(default_factory=list)

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        rows = []
        for _ in images:
            value = self.values[len(self.seen) % len(self.values)]
            self.seen.append(len(self.seen))
            rows.append([self._one(concept, value) for concept in self.concepts])
        return rows

    def _one(self, concept: str, value: float | None) -> Score:
        if value is None:
            return Score.unscored(self.name, concept, self.unit, "too dark to tell")
        return Score(detector=self.name, concept=concept, value=value, unit=self.unit)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return world.pipeline("cpu")


@pytest.fixture(scope="module")
def kids() -> Policy:
    return Policy.load("kids")


def _ids(policy: Policy) -> tuple[str, ...]:
    return tuple(concept.id for concept in policy.concepts)


def _rule(done: Generation) -> dict[str, Any]:
    """The first rule in a record."""
    rules: Any = done.guidance["rules"]
    found: dict[str, Any] = rules[0]
    return found


def _weights(pipe: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in pipe.unet.state_dict().items()}


def test_a_safe_picture_is_released_with_its_whole_record(pipe: Any, kids: Policy) -> None:
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.1])], sampler=FAST)
    (done,) = guard.generate("a red apple", seed=7)
    assert done.decision is Decision.RELEASE
    assert done.image is not None
    assert done.seed == 7
    assert done.system == guard.system
    assert done.policy["hash"] == kids.hash
    assert {score.concept for score in done.scores} == set(_ids(kids))
    assert _rule(done)["rule"] == "presence"
    assert done.attempts == 1


def test_a_named_concept_is_stopped_before_anything_is_sampled(pipe: Any, kids: Policy) -> None:
    detector = Scripted(_ids(kids), [0.0])
    guard = Guard(pipe, kids, detectors=[detector], sampler=FAST)
    done = list(guard.generate(["a pistol", "a cat"], n=2))
    stopped = [each for each in done if each.prompt == "a pistol"]
    assert [each.decision for each in stopped] == [Decision.BLOCK] * 2
    assert all(each.attempts == 0 and each.reasons and each.image is None for each in stopped)
    assert len(detector.seen) == 2
    assert sum(each.decision is Decision.RELEASE for each in done) == 2


def test_a_flagged_picture_is_made_again_with_more_guidance_up_to_the_bound(
    pipe: Any, kids: Policy
) -> None:
    detector = Scripted(_ids(kids), [0.9, 0.9, 0.1])
    guard = Guard(pipe, kids, detectors=[detector], sampler=FAST)
    (done,) = guard.generate("a cat")
    assert done.decision is Decision.RELEASE
    assert done.attempts == 3
    assert set(_rule(done)["strengths"]) == {3.0}
    detector = Scripted(_ids(kids), [0.9])
    (done,) = Guard(pipe, kids, detectors=[detector], sampler=FAST).generate("a cat")
    assert done.decision is Decision.BLOCK
    assert done.attempts == 1 + kids.attempts
    assert done.image is None
    assert "more attempts" in done.reasons[-1]


def test_a_flagged_word_takes_no_concept_out_of_guidance(pipe: Any, kids: Policy) -> None:
    rules = tuple(replace(rule, prompt="flag") for rule in kids.rules)
    guard = Guard(
        pipe,
        replace(kids, rules=rules),
        detectors=[Scripted(_ids(kids), [0.1])],
        sampler=FAST,
    )
    (plain,) = guard.generate("a cat")
    (flagged,) = guard.generate("a pistol")
    assert {hit.concept for hit in guard.screen("a pistol").hits} == {"weapons"}
    assert set(_rule(flagged)["concepts"]) == set(_rule(plain)["concepts"])
    assert {rule.concept.text for rule in kids.rules} <= set(_rule(flagged)["concepts"])


def test_a_picture_that_is_made_again_keeps_every_concept(pipe: Any, kids: Policy) -> None:
    detector = Scripted(_ids(kids), [0.9, 0.1])
    (done,) = Guard(pipe, kids, detectors=[detector], sampler=FAST).generate("a cat")
    assert done.attempts == 2
    assert {rule.concept.text for rule in kids.rules} <= set(_rule(done)["concepts"])


@pytest.mark.parametrize(
    "prompt",
    ["猫", "赤いりんご", "犬", "太陽", "家", "水", "お茶", "学校", "誕生日パーティー", "a doctor"],
)
def test_guard_and_screen_agree_and_let_everyday_words_pass(
    pipe: Any, kids: Policy, prompt: str
) -> None:
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.1])], sampler=FAST)
    assert guard.screen(prompt) == PromptScreen.of(kids)(prompt)
    assert guard.screen(prompt).action == "allow"


def test_of_several_pictures_the_safe_ones_are_released(pipe: Any, kids: Policy) -> None:
    detector = Scripted(_ids(kids), [0.1, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9])
    guard = Guard(pipe, kids, detectors=[detector], sampler=FAST)
    done = list(guard.generate("a cat", n=4))
    assert sorted(each.seed for each in done) == [0, 1, 2, 3]
    released = {each.seed for each in done if each.image is not None}
    assert released == {0, 2}
    assert all(each.reasons for each in done if each.seed not in released)


@pytest.mark.parametrize("values", [[None], [0.1, None]])
def test_unscored_pictures_are_held(pipe: Any, kids: Policy, values: list[float | None]) -> None:
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), values)], sampler=FAST)
    done = list(guard.generate("a cat", n=2))
    held = [each for each in done if each.decision is Decision.HOLD]
    assert len(held) == values.count(None) * 2 // len(values)
    assert all(each.image is None and "too dark to tell" in each.reasons[0] for each in held)
    assert all("hold" in each.case for each in held)


def test_a_detector_that_raises_holds_everything(pipe: Any, kids: Policy) -> None:
    class Broken(Scripted):
        def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
            raise RuntimeError("out of memory")

    guard = Guard(pipe, kids, detectors=[Broken(_ids(kids), [0.0])], sampler=FAST)
    done = list(guard.generate("a cat", n=3))
    assert [each.decision for each in done] == [Decision.HOLD] * 3
    assert all("out of memory" in each.reasons[0] for each in done)


def test_predictions_that_are_no_numbers_hold_the_batch(pipe: Any, kids: Policy) -> None:
    parameter = pipe.unet.conv_out.bias
    kept = parameter.detach().clone()
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.0])], sampler=FAST)
    parameter.data.fill_(float("nan"))
    try:
        done = list(guard.generate("a cat", n=2))
    finally:
        parameter.data.copy_(kept)
    assert [each.decision for each in done] == [Decision.HOLD] * 2
    assert "presence" in done[0].reasons[0]


def test_a_rule_that_could_not_act_holds_the_picture(kids: Policy) -> None:
    """The denoiser is called around the door, as a tool that replaced the pipeline's call might."""
    pipe = world.pipeline("cpu")
    call = type(pipe).__call__

    class Around(torch.nn.Module):
        def __init__(self, unet: Any) -> None:
            super().__init__()
            self.unet, self.config = unet, unet.config
            self.dtype, self.device = unet.dtype, unet.device

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.unet.forward(*args, **kwargs)

    class Short(type(pipe)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self.__dict__["unet"], unet = Around(self.unet), self.unet
            try:
                return call(self, *args, **kwargs)
            finally:
                self.__dict__["unet"] = unet

    pipe.__class__ = Short
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.0])], sampler=FAST)
    (done,) = guard.generate("a cat")
    assert done.decision is Decision.HOLD
    assert done.image is None
    assert "acted on 0 of" in done.reasons[0]


def test_the_record_says_what_acted_on_each_picture(pipe: Any, kids: Policy) -> None:
    edit = editing.erase(pipe, ["pistol"], preserve=["cat"])
    guard = Guard(
        pipe, kids, guidance="sld:max", detectors=[Scripted(_ids(kids), [0.0])], sampler=FAST
    )
    with edit.applied(pipe):
        done = list(guard.generate(["a cat", "a dog"], n=1))
    for each in done:
        rule = _rule(each)
        edits: Any = each.guidance["edits"]
        assert rule["acted"] == rule["steps"] == edits["calls"] == FAST.steps
        assert edits["sites"] == ["context"]
        assert edits["moved"] > 0


class _Fails:
    """A pipeline that runs out of memory for more than one picture, and breaks on one text."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def __call__(self, texts: list[str], **more: Any) -> Any:
        if len(texts) > 1:
            raise torch.OutOfMemoryError("two are too many")
        if texts == ["broken"]:
            raise ValueError("no such thing")
        return self._pipe(texts, **more)


def test_a_batch_that_fails_is_tried_one_by_one(pipe: Any, kids: Policy) -> None:
    guard = Guard(
        pipe, kids, guidance="none", detectors=[Scripted(_ids(kids), [0.1])], sampler=FAST
    )
    guard.pipe = _Fails(pipe)
    done = {each.prompt: each for each in guard.generate(["a cat", "broken", "a red apple"])}
    assert [done[text].decision for text in ("a cat", "broken", "a red apple")] == [
        Decision.RELEASE,
        Decision.HOLD,
        Decision.RELEASE,
    ]
    assert done["broken"].reasons == ("sampling failed: ValueError: no such thing",)
    assert done["broken"].image is None


def test_the_record_names_the_weights_that_ran(pipe: Any, kids: Policy) -> None:
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.1])], sampler=FAST)
    before = guard.system
    weight = pipe.unet.conv_out.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(0.5)
        changed = guard.system
        weight.copy_(kept)
    assert changed != before
    assert guard.system == before
    edit = editing.erase(pipe, ["pistol"])
    with edit.applied(pipe):
        assert guard.system not in (before, changed)
    assert guard.system == before


def test_the_pipeline_is_left_as_it_was(pipe: Any, kids: Policy) -> None:
    before, kind, forward = _weights(pipe), type(pipe), pipe.unet.forward
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.9])], sampler=FAST)
    list(guard.generate("a cat", n=2))
    assert type(pipe) is kind
    assert pipe.unet.forward == forward
    assert all(value.equal(before[name]) for name, value in pipe.unet.state_dict().items())


def test_the_same_seed_gives_the_same_picture_in_any_batch(pipe: Any, kids: Policy) -> None:
    detector = Scripted(_ids(kids), [0.1])
    alone = Guard(pipe, kids, detectors=[detector], sampler=FAST)
    (one,) = alone.generate("a cat", seed=2)
    many = list(alone.generate("a cat", n=3))
    same = next(each for each in many if each.seed == 2)
    assert one.image is not None
    assert same.image is not None
    gap = np.abs(np.asarray(one.image, float) - np.asarray(same.image, float))
    assert gap.max() <= 1


def test_every_prompt_may_have_its_own_seed(pipe: Any, kids: Policy) -> None:
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.1])], sampler=FAST)
    done = list(guard.generate(["a cat", "a red apple"], n=2, seed=[7, 40]))
    assert sorted((each.prompt, each.seed) for each in done) == [
        ("a cat", 7),
        ("a cat", 8),
        ("a red apple", 40),
        ("a red apple", 41),
    ]
    with pytest.raises(BadInput, match="1 seeds"):
        guard.generate(["a cat", "a red apple"], seed=[7])


def test_without_guidance_nothing_is_attached(pipe: Any, kids: Policy) -> None:
    guard = Guard(
        pipe, kids, guidance="none", detectors=[Scripted(_ids(kids), [0.1])], sampler=FAST
    )
    (done,) = guard.generate("a cat")
    assert dict(done.guidance) == {}


def test_what_changes_the_system_changes_its_id(pipe: Any, kids: Policy) -> None:
    detectors = [Scripted(_ids(kids), [0.1])]
    base = Guard(pipe, kids, detectors=detectors, sampler=FAST)
    assert base.system == Guard(pipe, kids, detectors=detectors, sampler=FAST).system
    others = [
        Guard(pipe, kids, guidance="sld:max", detectors=detectors, sampler=FAST),
        Guard(pipe, replace(kids, version="9.9.9"), detectors=detectors, sampler=FAST),
        Guard(pipe, kids, detectors=detectors, sampler=replace(FAST, steps=3)),
    ]
    assert len({base.system, *(each.system for each in others)}) == 4


@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        ("", {}),
        ("a" * 10_000, {}),
        ("a\x00cat", {}),
        ([], {}),
        ("a cat", {"n": 0}),
        ("a cat", {"n": 10**9}),
        ("a cat", {"seed": -1}),
    ],
)
def test_bad_input_is_refused_before_sampling(
    pipe: Any, kids: Policy, prompts: Any, options: dict[str, int]
) -> None:
    detector = Scripted(_ids(kids), [0.1])
    guard = Guard(pipe, kids, detectors=[detector], sampler=FAST)
    with pytest.raises(BadInput):
        guard.generate(prompts, **options)
    assert not detector.seen


@pytest.mark.parametrize("bad", [{"steps": 0}, {"guidance_scale": float("nan")}, {"batch_size": 0}])
def test_sampler_numbers(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Sampler(**bad)


def test_a_policy_needs_a_detector_for_each_threshold(pipe: Any, kids: Policy) -> None:
    with pytest.raises(BadInput, match="tobacco"):
        Guard(pipe, kids, detectors=[Scripted(("weapons",), [0.1])])


def test_the_strongest_outcome_wins(kids: Policy) -> None:
    def score(concept: str, value: float) -> Score:
        return Score(detector="judge", concept=concept, value=value, unit="probability")

    first, second = kids.rules[0], kids.rules[1]
    actions = [Decision.BLUR, Decision.BLOCK]
    rules = tuple(
        replace(rule, output=(replace(rule.output[0], action=action),))
        for rule, action in zip((first, second), actions, strict=True)
    )
    policy = replace(kids, rules=rules)
    ids = [rule.concept.id for rule in rules]
    assert decide(policy, [score(i, 0.9) for i in ids]).decision is Decision.BLOCK
    assert decide(policy, [score(ids[0], 0.9), score(ids[1], 0.0)]).decision is Decision.BLUR
    assert decide(policy, [score(i, 0.0) for i in ids]).decision is Decision.RELEASE
    assert decide(policy, [score(ids[0], 0.0)]).decision is Decision.HOLD


def test_a_policy_without_thresholds_says_that_nobody_looked() -> None:
    outcome = decide(Policy.load("observe"), [])
    assert outcome.decision is Decision.RELEASE
    assert "no detector looked" in outcome.reasons[0]


def test_blurring_hides_the_object() -> None:
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((0, 0, 0), (28, 28, 36, 36))
    assert np.asarray(blurred(picture).convert("L")).min() > 150


def test_a_blurred_picture_is_the_only_one_handed_out(pipe: Any, kids: Policy) -> None:
    rules = tuple(
        replace(rule, output=(replace(rule.output[0], action=Decision.BLUR),))
        for rule in kids.rules
    )
    policy = replace(kids, rules=rules)
    guard = Guard(pipe, policy, detectors=[Scripted(_ids(kids), [0.9])], sampler=FAST)
    (done,) = guard.generate("a cat")
    (plain,) = Guard(pipe, policy, detectors=[Scripted(_ids(kids), [0.0])], sampler=FAST).generate(
        "a cat"
    )
    assert isinstance(done, Generation)
    assert done.decision is Decision.BLUR
    assert done.image is not None
    assert plain.image is not None
    assert np.asarray(done.image).std() < np.asarray(plain.image).std()


def test_a_batch_without_memory_is_halved(
    pipe: Any, kids: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, sizes = pipe.unet.forward, []

    def forward(sample: torch.Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(sample))
        if len(sample) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(sample, *rest, **more)

    monkeypatch.setattr(pipe.unet, "forward", forward)
    sampler = Sampler(steps=1, guidance_scale=4.0, batch_size=4)
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.0])], sampler=sampler)
    done = list(guard.generate("a cat", n=4))
    assert [each.decision for each in done] == [Decision.RELEASE] * 4
    assert max(sizes) > 8
    assert min(sizes) >= 4, "halves, not one by one"


def test_a_copy_of_a_guard_reads_the_weights_for_itself(pipe: Any, kids: Policy) -> None:
    guard = Guard(pipe, kids, detectors=[Scripted(_ids(kids), [0.0])], sampler=FAST)
    other = copy(guard)
    assert other.system == guard.system
