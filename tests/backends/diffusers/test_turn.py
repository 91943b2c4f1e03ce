"""One owner and one run at a time: others wait or are refused, and nobody gets another's rule."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers import turn
from tadasu.backends.diffusers.attach import attach, owned
from tadasu.backends.diffusers.sample import drawn
from tadasu.errors import BadInput, RunFailed, TadasuError

Latents = Callable[..., torch.Tensor]
CONCEPTS = ("a pistol", "a bomb")


@pytest.fixture
def pipe(sd_parts: Any, like: Callable[..., Any]) -> Any:
    """A pipeline whose denoiser and text encoder are its own."""
    parts = {name: copy.deepcopy(getattr(sd_parts, name)) for name in ("unet", "text_encoder")}
    return like(sd_parts, **parts)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting that is refused after a moment."""
    monkeypatch.setattr(turn, "IDLE", 0.3)


def _guided(pipe: Any, latents_of: Latents, concept: str) -> torch.Tensor:
    with attach(pipe, "sld:max", [concept]):
        return latents_of(pipe)


def test_threads_get_their_own_rule(pipe: Any, latents_of: Latents) -> None:
    wanted = [_guided(pipe, latents_of, concept) for concept in CONCEPTS]
    plain = latents_of(pipe)
    barrier = threading.Barrier(3)

    def work(number: int) -> list[bool]:
        barrier.wait()
        if number == 2:
            return [torch.equal(latents_of(pipe), plain) for _ in range(6)]
        return [
            torch.equal(_guided(pipe, latents_of, CONCEPTS[number]), wanted[number])
            for _ in range(6)
        ]

    with ThreadPoolExecutor(3) as pool:
        right = [each for found in pool.map(work, range(3)) for each in found]
    assert right == [True] * 18


def test_threads_on_pipelines_that_share_parts(
    pipe: Any, like: Callable[..., Any], latents_of: Latents
) -> None:
    pipes = [pipe, like(pipe), type(pipe)(**pipe.components, requires_safety_checker=False)]
    for each in pipes:
        each.set_progress_bar_config(disable=True)
    plain = latents_of(pipe)
    wanted = [_guided(pipe, latents_of, concept) for concept in CONCEPTS]
    barrier = threading.Barrier(3)

    def work(number: int) -> list[bool | None]:
        found: list[bool | None] = []
        barrier.wait()
        for _ in range(6):
            try:
                if number == 2:
                    found.append(torch.equal(latents_of(pipes[2]), plain))
                else:
                    latents = _guided(pipes[number], latents_of, CONCEPTS[number])
                    found.append(torch.equal(latents, wanted[number]))
            except RunFailed:
                found.append(None)
        return found

    with ThreadPoolExecutor(3) as pool:
        right = [each for found in pool.map(work, range(3)) for each in found]
    assert False not in right
    assert right.count(True) >= 6


def test_a_call_in_another_thread_than_the_block_is_refused_or_waits(
    pipe: Any, latents_of: Latents, patient: None
) -> None:
    with ThreadPoolExecutor(1) as pool, attach(pipe, "sld:max", ["a pistol"]):
        with pytest.raises(RunFailed, match="open the block in the thread"):
            pool.submit(latents_of, pipe).result(60)
        with pytest.raises(RunFailed, match="open the block in the thread"):
            pool.submit(_guided, pipe, latents_of, "a bomb").result(60)
        assert latents_of(pipe).isfinite().all()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(latents_of, pipe).result(60).isfinite().all()


def test_a_call_that_waits_is_answered_when_the_block_is_closed(
    pipe: Any, latents_of: Latents
) -> None:
    plain = latents_of(pipe)
    with ThreadPoolExecutor(1) as pool:
        with attach(pipe, "sld:max", ["a pistol"]):
            later = pool.submit(latents_of, pipe)
            latents_of(pipe)
            assert not later.done()
        assert torch.equal(later.result(60), plain)


def test_a_block_waits_for_a_call_from_before_any_block(pipe: Any, latents_of: Latents) -> None:
    plain, begun, order = latents_of(pipe), threading.Event(), []

    def slow(_: Any, step: int, timestep: Any, kwargs: Any) -> Any:
        begun.set()
        time.sleep(0.05)
        return kwargs

    def unprotected() -> torch.Tensor:
        found = latents_of(pipe, callback_on_step_end=slow)
        order.append("call")
        return found

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(unprotected)
        begun.wait(60)
        with attach(pipe, "sld:max", ["a pistol"]):
            order.append("block")
            latents_of(pipe, steps=3)
        assert torch.equal(first.result(60), plain)
    assert order == ["call", "block"]


def test_threads_that_inherit_the_context_share_the_block(pipe: Any, latents_of: Latents) -> None:
    wanted = _guided(pipe, latents_of, "a pistol")

    async def serve() -> list[torch.Tensor]:
        with attach(pipe, "sld:max", ["a pistol"]):
            return await asyncio.gather(*(asyncio.to_thread(latents_of, pipe) for _ in range(3)))

    assert all(torch.equal(found, wanted) for found in asyncio.run(serve()))


def test_tasks_of_one_thread_never_get_each_others_rule(pipe: Any, latents_of: Latents) -> None:
    wanted = {concept: _guided(pipe, latents_of, concept) for concept in CONCEPTS}

    async def request(concept: str) -> bool | None:
        try:
            with attach(pipe, "sld:max", [concept]):
                await asyncio.sleep(0)
                return torch.equal(latents_of(pipe), wanted[concept])
        except BadInput as error:
            assert "Another task" in str(error)  # noqa: PT017
            return None

    async def serve() -> list[bool | None]:
        return await asyncio.gather(*(request(CONCEPTS[i % 2]) for i in range(6)))

    found = asyncio.run(serve())
    assert False not in found
    assert True in found


def test_an_interrupt_gives_everything_back(pipe: Any, latents_of: Latents) -> None:
    plain, before = latents_of(pipe), (type(pipe), type(pipe.unet))

    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), attach(pipe, "sld", ["a pistol"]):
        latents_of(pipe, callback_on_step_end=interrupt)
    assert (type(pipe), type(pipe.unet)) == before
    with ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(latents_of, pipe).result(60), plain)
    assert not turn._HELD
    assert not turn._LINE


def test_pictures_drawn_without_a_rule_do_not_disturb_each_other(pipe: Any) -> None:
    """Two callers with different numbers of steps share one scheduler."""

    def draw(steps: int) -> bytes:
        made = drawn(pipe, ["a cat"], [1], {"num_inference_steps": steps})
        return made[0].image.tobytes()

    wanted = {steps: draw(steps) for steps in (2, 5)}
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda i: (2 + 3 * (i % 2), draw(2 + 3 * (i % 2))), range(12))
    assert all(wanted[steps] == picture for steps, picture in found)


def test_an_owned_pipeline_is_refused_to_others(pipe: Any, patient: None) -> None:
    with owned(pipe), ThreadPoolExecutor(1) as pool, pytest.raises(TadasuError, match="thread"):
        pool.submit(drawn, pipe, ["a cat"], [1], {"num_inference_steps": 2}).result(60)
