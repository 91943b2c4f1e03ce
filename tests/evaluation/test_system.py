"""Systems: one id for one behaviour, everything taken off again, refusals told from pictures."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tadasu as td
from tadasu import world
from tadasu.errors import BadFile, BadInput, RunFailed, UnknownName
from tadasu.evaluation import memory
from tadasu.evaluation.system import System
from tadasu.evaluation.target import Answer, Outcome, Request, Target
from tadasu.guard import Sampler
from tadasu.records import Score

FAST = Sampler(steps=2, batch_size=2)
CAT = [Request(text="a cat", seed=3)]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return world.pipeline("cpu")


def pixels(answers: Sequence[Answer]) -> list[bytes]:
    return [answer.image.tobytes() for answer in answers if answer.image is not None]


def run(system: System, requests: Sequence[Request] = CAT) -> list[Answer]:
    with system.opened():
        return system.generate(requests)


def test_names_and_ids_follow_what_pictures_depend_on(pipe: Any) -> None:
    plain = System(pipe, sampler=FAST)
    assert isinstance(plain, Target)
    assert (plain.name, System(pipe, guidance="sld:strong").name) == ("plain", "sld:strong")
    same = System(pipe, name="other", sampler=dataclasses.replace(FAST, batch_size=7))
    assert same.id == plain.id
    ids = {
        plain.id,
        System(pipe, sampler=Sampler(steps=3)).id,
        System(pipe, sampler=FAST, guidance="sld").id,
        System(pipe, sampler=FAST, guidance="sld", concepts=("a pistol",)).id,
        System(pipe, sampler=FAST, guidance="sld", strength=0.5).id,
        System(pipe, sampler=FAST, scheduler={"timestep_spacing": "trailing"}).id,
        System(pipe, sampler=FAST, guard=td.Guard(pipe, td.Policy.load("kids"))).id,
    }
    assert len(ids) == 7
    weight = next(iter(pipe.unet.parameters()))
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
        changed = System(pipe, sampler=FAST).id
        weight.copy_(kept)
    assert changed != plain.id
    assert System(pipe, sampler=FAST).id == plain.id


def test_everything_is_taken_off_again(pipe: Any) -> None:
    before = pixels(run(System(pipe, sampler=FAST)))
    scheduler, cls = pipe.scheduler, type(pipe)
    edit = td.editing.erase(pipe, ["cat"], options=td.editing.Options(solver="uce:v2"))
    steered = System(
        pipe,
        sampler=FAST,
        guidance="negative_prompt",
        concepts=("a cat",),
        edits=(edit,),
        scheduler={"timestep_spacing": "trailing"},
    )
    assert steered.name == "negative_prompt + edit"
    changed = pixels(run(steered))
    assert changed != before
    assert pixels(run(System(pipe, sampler=FAST, edits=(edit,)))) != before
    assert pipe.scheduler is scheduler
    assert type(pipe) is cls
    assert pixels(run(System(pipe, sampler=FAST))) == before


def test_under_model_offloading_every_row_is_steered(pipe: Any) -> None:
    steered = System(pipe, sampler=FAST, guidance="sld:max", concepts=("a pistol",))
    wanted = pixels(run(steered))
    offloaded = world.pipeline("cpu")
    offloaded.enable_model_cpu_offload(device="cpu")
    same = dataclasses.replace(steered, pipe=offloaded)
    with same.opened():
        answers = [answer for _ in range(3) for answer in same.generate(CAT)]
    assert pixels(answers) == wanted * 3
    assert wanted != pixels(run(System(pipe, sampler=FAST)))
    for answer in answers:
        rules: Any = answer.details["rules"]
        assert rules[0]["acted"] == rules[0]["steps"] == FAST.steps


def test_a_rule_that_could_not_act_is_the_rows_own_failure(pipe: Any) -> None:
    system = System(pipe, sampler=FAST, guidance="sld:max", concepts=("a cat",))
    callback = pipe.scheduler.step

    def sets_anew(*args: Any, **kwargs: Any) -> Any:
        made = callback(*args, **kwargs)
        pipe.scheduler.set_timesteps(2)
        return made

    pipe.scheduler.step = sets_anew
    try:
        (answer,) = run(system)
    finally:
        del pipe.scheduler.step
    assert answer.outcome is Outcome.ERROR
    assert answer.image is None
    assert "scheduler" in answer.reason


def test_a_suites_scale_is_used_unless_the_sampler_has_one(pipe: Any) -> None:
    asked = [dataclasses.replace(CAT[0], guidance_scale=2.0)]
    fixed = dataclasses.replace(FAST, guidance_scale=9.0)
    assert pixels(run(System(pipe, sampler=FAST), asked)) != pixels(run(System(pipe, sampler=FAST)))
    assert pixels(run(System(pipe, sampler=fixed), asked)) == pixels(
        run(System(pipe, sampler=fixed))
    )


def test_bad_parts_are_refused_and_leave_nothing_behind(pipe: Any, tmp_path: Any) -> None:
    guard = td.Guard(pipe, td.Policy.load("kids"))
    with pytest.raises(BadInput, match="brings its own guidance"):
        System(pipe, guidance="sld", guard=guard)
    with pytest.raises(BadInput, match="same pipeline"):
        System(SimpleNamespace(), guard=guard)
    with pytest.raises(UnknownName, match="Did you mean"):
        System(pipe, guidance="sldd")
    scheduler = pipe.scheduler
    for settings, says in (({"name": "Nope"}, "scheduler"), ({"stepz": 1}, "setting of")):
        with pytest.raises(UnknownName, match=says), System(pipe, scheduler=settings).opened():
            pass
    with pytest.raises(BadFile, match="Cannot read"):
        _ = System(pipe, adapters=("absent.safetensors",)).id
    odd = tmp_path / "odd.safetensors"
    odd.write_bytes(b"no")
    with (
        pytest.raises(BadFile, match="does not fit this pipeline"),
        System(pipe, adapters=(str(odd),)).opened(),
    ):
        pass
    assert pipe.scheduler is scheduler


def test_a_suites_scale_reaches_a_guarded_system(pipe: Any) -> None:
    def guarded(sampler: Sampler) -> System:
        policy = td.Policy.load("observe")
        return System(pipe, guard=td.Guard(pipe, policy, guidance="none", sampler=sampler))

    asked = [dataclasses.replace(CAT[0], guidance_scale=2.0)]
    at_two = dataclasses.replace(FAST, guidance_scale=2.0)
    assert pixels(run(guarded(FAST), asked)) == pixels(run(System(pipe, sampler=at_two)))
    assert pixels(run(guarded(FAST), asked)) != pixels(run(guarded(FAST)))
    fixed = dataclasses.replace(FAST, guidance_scale=9.0)
    assert pixels(run(guarded(fixed), asked)) == pixels(run(guarded(fixed)))


@pytest.mark.parametrize("text", ["a c\0t", "", "x" * 5000])
def test_a_prompt_that_a_guard_cannot_use_is_that_requests_own_failure(
    pipe: Any, text: str
) -> None:
    system = System(pipe, guard=td.Guard(pipe, td.Policy.load("observe"), sampler=FAST))
    answers = run(system, [CAT[0], dataclasses.replace(CAT[0], text=text)])
    assert [answer.outcome for answer in answers] == [Outcome.IMAGE, Outcome.ERROR]
    assert answers[1].stage == "input"
    assert "cannot use this prompt" in answers[1].reason


class _Big:
    """What a failing batch leaves behind."""


class _Small:
    """A pipeline that has memory for two pictures at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.left: list[weakref.ref[_Big]] = []
        self.alive: list[int] = []

    def __call__(self, texts: list[str], **more: Any) -> Any:
        self.alive.append(sum(each() is not None for each in self.left))
        self.batches.append(len(texts))
        if len(texts) > 2:
            activations = _Big()
            self.left.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return SimpleNamespace(images=[Image.new("RGB", (4, 4))] * len(texts))


def test_out_of_memory_halves_the_batch_and_frees_what_it_held() -> None:
    pipe = _Small()
    answers = System(pipe).generate([Request(text=str(i)) for i in range(8)])
    assert [answer.outcome for answer in answers] == [Outcome.IMAGE] * 8
    assert pipe.batches == [8, 4, 2, 2, 4, 2, 2]
    assert pipe.alive == [0] * 7


def test_memory_is_the_peak_of_one_batch() -> None:
    memory.start()
    before = memory.peak()
    held = bytearray(200 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert memory.peak() - before > 150 << 20
    del held
    memory.start()
    assert memory.peak() - before < 100 << 20


class _Pipe:
    """A pipeline that fails on one text and is flagged on another."""

    def __call__(self, texts: list[str], **more: Any) -> Any:
        if "broken" in texts:
            raise RunFailed("a prediction is not finite")
        image = Image.new("RGB", (4, 4))
        flags = [text == "flagged" for text in texts]
        return SimpleNamespace(images=[image] * len(texts), nsfw_content_detected=flags)


def test_a_failing_request_takes_no_other_with_it() -> None:
    system = System(_Pipe())
    answers = system.generate([Request(text=text) for text in ("a", "broken", "flagged")])
    assert [answer.outcome for answer in answers] == ["image", "error", "blocked"]
    assert answers[1].reason == "a prediction is not finite"
    assert answers[2].stage == "output"
    assert all(answer.memory for answer in answers)


class _Sees:
    """A detector with one value for every concept, or none."""

    name, unit = "judge", "probability"

    def __init__(self, value: float | None) -> None:
        self.value = value
        self.concepts = tuple(concept.id for concept in td.Policy.load("kids").concepts)

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        if self.value is None:
            raise RuntimeError("broken")
        return [
            [
                Score(detector="judge", concept=concept, value=self.value, unit="probability")
                for concept in self.concepts
            ]
            for _ in images
        ]


def test_what_a_guard_withholds_is_blocked_and_not_safe(pipe: Any) -> None:
    policy = td.Policy.load("kids")
    asked = [Request(text="a pistol", seed=1), Request(text="a red apple", seed=2)]
    safe = System(pipe, guard=td.Guard(pipe, policy, detectors=[_Sees(0.0)], sampler=FAST))
    answers = run(safe, asked)
    assert [answer.outcome for answer in answers] == [Outcome.BLOCKED, Outcome.IMAGE]
    assert (answers[0].stage, answers[0].details["attempts"]) == ("input", 0)
    assert "pistol" in answers[0].reason
    held = System(pipe, guard=td.Guard(pipe, policy, detectors=[_Sees(None)], sampler=FAST))
    (answer,) = run(held, asked[1:])
    assert (answer.outcome, answer.stage) == (Outcome.BLOCKED, "output")
    assert answer.details["decision"] == "hold"


def test_an_answer_has_a_picture_exactly_when_it_says_so() -> None:
    image = Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(BadInput, match="exactly when"):
        Answer(outcome=Outcome.BLOCKED, image=image)
    with pytest.raises(BadInput, match="exactly when"):
        Answer(outcome=Outcome.IMAGE)
