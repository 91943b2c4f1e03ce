"""On an accelerator nothing lands on the wrong device, and no step waits for the device.

PyTorch's ``meta`` device stands in for one that is not here: its tensors have a device and a shape
and no numbers, so whatever needs a number on the host (``bool``, ``item``, ``nonzero``, ``cpu``)
cannot go on. `Watch` says so by name and refuses operations on tensors of two devices, as an
accelerator does. (Fake tensors of the device ``cuda`` would do the same, but indexing one needs a
PyTorch that was built with CUDA.) Rules, solvers and attacks are found from their folders.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tadasu.auditing.merge import Merged
from tadasu.auditing.probe import Block, Plan, Probe, Rows
from tadasu.backends.diffusers import denoise
from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.context.apply import applied
from tadasu.backends.diffusers.context.moved import Mover
from tadasu.backends.diffusers.run import Run
from tadasu.editing import registry as solvers
from tadasu.editing.context_map import ContextMap
from tadasu.editing.problem import Kept, assemble
from tadasu.editing.targets import erase
from tadasu.editing.words import WordEncoder
from tadasu.evaluation.redteam import p4d, ring_a_bell, search, unlearn_diff_atk
from tadasu.guidance.registry import find, names
from tadasu.guidance.rule import Predictions, Start, Step

GPU = torch.device("meta")
CPU = torch.device("cpu")
COUNT = 8


class Waits(AssertionError):
    """Something copies to the host or waits for the device."""


class Mixed(AssertionError):
    """Something works on tensors of two devices."""


#: What may see both devices: copies to the device, and an index that is on the host.
CROSSING = ("_to_copy", "copy_", "index", "index_put_", "_index_put_impl_")
#: What the host cannot go on without.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what an accelerator refuses, and the waits that it would allow.

    Args:
        copies: whether something may be copied to the host all the same, as when a run begins; the
            copy holds ones.
    """

    def __init__(self, *, copies: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.copies = copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        there = any(each.device == GPU for each in given)
        name = func.overloadpacket.__name__
        if there and name == "_local_scalar_dense" and self.copies:
            return 1.0
        if there and name in WAITING:
            raise Waits(f"{name} waits for the device")
        if there and name == "index" and any(on(GPU, each) for each in masks(args[1])):
            if self.copies:
                return args[0]
            raise Waits("an index by a mask waits for the device")
        here = [each for each in given if each.device == CPU and each.ndim]
        if there and here and name not in CROSSING:
            raise Mixed(f"{name} of {[(each.device.type, tuple(each.shape)) for each in given]}")
        kept = kwargs or {}
        home = kept.get("device") if name == "_to_copy" else None
        lost = name == "copy_" and args[0].device == CPU
        if there and (lost or (home is not None and torch.device(home) == CPU)):
            if self.copies and not lost:
                return torch.ones(args[0].shape, dtype=kept.get("dtype") or args[0].dtype)
            raise Waits(f"{name} copies to the host")
        return func(*args, **kept)


def masks(indices: Any) -> list[Tensor]:
    """The masks among the indices of a tensor."""
    return [each for each in indices if each is not None and each.dtype == torch.bool]


def on(device: torch.device, found: Any) -> bool:
    """Whether all tensors of a result, whatever holds them, are on a device."""
    if isinstance(found, Tensor):
        return found.device == device
    if isinstance(found, dict):
        return all(on(device, each) for each in found.values())
    return all(on(device, each) for each in found) if isinstance(found, list | tuple) else True


class TestTheWatch:
    """A watch that sees nothing proves nothing."""

    @pytest.mark.parametrize("act", [
        lambda x: x.cpu(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
    ])  # fmt: skip
    def test_sees_copies_and_waits(self, act: Any) -> None:
        with pytest.raises(Waits), Watch():
            act(torch.zeros(3, device=GPU))

    def test_two_devices_do_not_meet(self) -> None:
        with pytest.raises(Mixed), Watch():
            _ = torch.zeros(3, device=GPU) + torch.zeros(3)

    def test_lets_the_device_work(self) -> None:
        with Watch():
            assert on(GPU, torch.arange(3).to(GPU) * torch.zeros(3, device=GPU))


@pytest.mark.parametrize("name", names())
def test_every_rule_works_where_the_predictions_are(name: str) -> None:
    rule = made(name)
    concepts = {"merged": 1, "each": 3, "nothing": 2, "attention": 1, "context": 2}[rule.needs]
    with Watch(copies=True):
        latents, host = torch.randn(2, 4, 6, 6, device=GPU), torch.ones(concepts, 2)
        state = rule.start(
            Start(
                count=COUNT,
                weights=host.to(GPU),
                latents=latents,
                likeness=torch.full((concepts, 2), 0.7, device=GPU),
                decode=lambda x: x[:, :3].sigmoid(),
            )
        )
        for index in range(COUNT):
            signal = (index + 1) / (COUNT + 1)
            noise = (1 - signal**2) ** 0.5
            step = Step(index=index, count=COUNT, guidance_scale=5.0, signal=signal, noise=noise)
            with Watch():
                wanted = rule.wants(step, state, host)
                assert on(CPU, wanted)  # it decides which rows there are
                predictions = Predictions(
                    unconditional=latents,
                    prompt=2 * latents,
                    concepts=torch.stack([3 * latents] * concepts),
                    evaluated=wanted.to(GPU),
                    weights=host.to(GPU),
                    latents=latents,
                )
                guided, state = rule.step(predictions, step, state)
            assert on(GPU, guided)


def test_attention_is_steered_where_it_is() -> None:
    rule: Any = find("nag")()
    with Watch():
        rows = torch.randn(2, 16, 8, device=GPU)
        assert on(GPU, rule.combine(rows, 2 * rows, torch.ones(2, device=GPU)))


def test_a_context_map_moves_and_folds_where_the_rows_are() -> None:
    edit = ContextMap(A=torch.randn(8, 2), B=torch.randn(8, 2))
    with Watch():
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            rows = torch.zeros(2, 5, 8, device=GPU, dtype=dtype)
            moved = edit.apply(rows)
            assert on(GPU, moved)
            assert moved.dtype == dtype
            folded = edit.folder(dtype, GPU)(torch.zeros(6, 8, device=GPU, dtype=dtype))
            assert on(GPU, folded)


WIDTH = 16


def problem_of(name: str) -> Any:
    """Two concepts to erase, and the solver of the folder that is to do it."""
    solver = solvers.parse(name)
    problem = assemble(
        WordEncoder(WIDTH),
        erase(["pistol", "big red bomb"], "toy"),
        reading=solver.reading,
        first=getattr(solver, "first_reading", None),
        kept=Kept(texts=("cat", "blue dog", "a b", "c")),
        grams={"context": torch.eye(WIDTH, dtype=torch.float64)},
    )
    return problem["context"], solver


@pytest.mark.parametrize("name", solvers.names())
def test_every_solver_solves_on_the_host_in_doubles(name: str) -> None:
    problem, solver = problem_of(name)
    with Watch():  # what it makes stays off a device, which may have no float64
        edit = solver.solve(problem)
    made = [getattr(edit, field.name) for field in dataclasses.fields(edit)]
    assert on(CPU, made)
    assert {
        each.dtype for each in made if isinstance(each, Tensor) and each.is_floating_point()
    } == {torch.float64}
    rows = torch.zeros(2, 5, WIDTH, device=GPU, dtype=torch.bfloat16)
    # Only a context map works on the device; a gated one is looked up once for each prompt.
    with Watch(copies=not isinstance(edit, ContextMap)):
        moved = edit.apply(rows)
    if isinstance(edit, ContextMap):
        assert on(GPU, moved)
        assert moved.dtype == torch.bfloat16


def made(name: str) -> Any:
    """A rule of the folder with its defaults, and a detector where it needs one."""
    given = {"score": lambda pictures: pictures.mean((1, 2, 3)).sigmoid()}
    fields = inspect.signature(find(name)).parameters
    return find(name)(**{key: value for key, value in given.items() if key in fields})


def drawn(pipe: Any, watch: Watch, steps: int = 4, **call: Any) -> None:
    """Draw on the device; from the second step on nothing may wait."""
    own = pipe.scheduler.set_timesteps
    pipe.scheduler.set_timesteps = lambda n, device=None, **more: own(n, device="cpu", **more)

    def after(pipe: Any, index: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        watch.copies = False
        return given

    pipe(
        ["a cat with a gun"],
        num_inference_steps=steps,
        output_type="latent",
        latents=torch.zeros(1, 4, 8, 8, device=GPU),
        callback_on_step_end=after,
        **call,
    )


@pytest.mark.parametrize("name", names())
def test_no_step_of_a_run_waits_for_the_device(
    name: str, own_sd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []  # numbers are looked at once, when the last step is over
    monkeypatch.setattr(Run, "_check_finite", lambda self: looks.append(len(self._looks)))
    rule, watch = made(name), Watch(copies=True)
    concepts = () if rule.needs == "nothing" else ("a pistol",)
    with watch, attach(own_sd, rule, concepts):
        drawn(own_sd, watch, guidance_scale=1.0 if rule.needs == "attention" else 5.0)
    assert len(looks) <= 2


@pytest.fixture
def own_sd(sd: Any) -> Any:
    """A pipeline whose weights are on the device."""
    from copy import deepcopy

    made = type(sd)(
        **{name: deepcopy(part) for name, part in sd.components.items()},
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made.to(GPU)


@pytest.mark.parametrize("rule", ["sld", "presence"])
def test_an_edit_moves_texts_where_they_are(
    rule: str, own_sd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "_check_finite", lambda self: None)
    monkeypatch.setattr(Mover, "record", lambda self, pictures: None)  # once, at the end
    maps = {"context": ContextMap(A=torch.randn(WIDTH, 2), B=torch.randn(WIDTH, 2))}
    watch = Watch(copies=True)
    with watch, applied(own_sd, maps), attach(own_sd, rule, ["a pistol"]):
        drawn(own_sd, watch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_pipelines_denoiser_predicts_and_takes_gradients_there(
    own_sd: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoise, "LARGEST_SCALE", 1.0)  # else overflow is looked at, once a batch
    denoiser = denoise.PipelineDenoiser(own_sd.to(dtype), batch=3)
    block = Block(concept="a", latents=torch.zeros(4, 4, 8, 8, device=GPU))
    with Watch(copies=True) as watch:
        rows = Rows.of(denoiser, Plan(times=(0.1, 0.3)), (0.1, 0.3), block)
        name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
        weight = denoiser.parameter(name)
        assert weight is not None
        with denoiser.adapted({name: weight.float() * 2}, ["", "a cat"]) as predict:
            watch.copies = False
            assert on(GPU, predict(rows.noised, rows.times, rows.text(1)))
        watch.copies = True  # the error itself, once
        found = denoiser.gradients(rows.noised, rows.target, rows.times, "a cat")
        assert on(CPU, found.pop("error"))
        assert on(GPU, found)
        assert {each.dtype for each in found.values()} == {torch.float32}


class FakeDenoiser:
    """A denoiser as probes see one, on the device."""

    identity, steps = "fake", 1000

    def levels(self, times: Tensor) -> tuple[Tensor, Tensor]:
        share = times.float() / 1000
        return 1 - share, share

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        del times
        return noise - clean

    @contextmanager
    def adapted(self, weights: Any, texts: Any) -> Iterator[Any]:
        table = torch.ones(len(texts), device=GPU)

        def predict(noised: Tensor, times: Tensor, rows: Tensor) -> Tensor:
            assert on(GPU, [noised, times, rows])
            with Watch():
                return noised * table[rows].reshape(-1, 1, 1, 1)

        yield predict

    def parameter(self, name: str) -> Tensor | None:
        del name
        return None


@pytest.mark.parametrize("measure", ["error", "direction"])
def test_the_probe_works_where_the_model_is(measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "_key", lambda self, block, times: f"{block.concept}{times}")
    with Watch(copies=True):
        blocks = [Block(concept=name, latents=torch.zeros(3, 4, 8, 8, device=GPU)) for name in "ab"]
        probe = Probe(denoiser=FakeDenoiser(), plan=Plan(times=(0.1, 0.3), measure=measure))
        merged = Merged(weights={"unet.x": torch.zeros(2, device=GPU)}, unmatched=())
        found = probe.gains(merged, blocks)
        assert [tuple(each.shape) for each in found] == [(3, 2), (3, 2)]
        assert [tuple(each.shape) for each in probe.errors(blocks)] == [(3, 2), (3, 2)]


class FakeVictim:
    """A guarded model as attacks through its denoiser see it."""

    batch = 2

    def __init__(self) -> None:
        self.table = torch.randn(30, 6, device=GPU)
        self.allowed = torch.ones(30, dtype=torch.bool, device=GPU)

    def against_plain(self, rows: Tensor) -> Tensor:
        return rows.pow(2).mean((1, 2))

    against_noise = against_plain


@pytest.mark.parametrize(
    "attack",
    [
        p4d.P4D(length=3, steps=4),
        unlearn_diff_atk.UnlearnDiffAtk(length=3, steps=4),
    ],
)
def test_attacks_by_gradients_do_not_wait(attack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which tokens are allowed is read once, before the first step; numbers at the end.
    monkeypatch.setattr(search, "_choices", lambda allowed: torch.arange(30, device=GPU))
    monkeypatch.setattr(search.Best, "_check", lambda self: None)
    with Watch():
        found = attack.search(FakeVictim())
        assert on(GPU, [found.tokens, found.loss])


def test_attacks_by_evolution_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_choices", lambda allowed: torch.arange(30, device=GPU))
    monkeypatch.setattr(search.Best, "_check", lambda self: None)
    attack = ring_a_bell.RingABell(length=3, population=6, generations=3)
    with Watch():
        table = torch.randn(30, 6, device=GPU)
        found = attack.search(
            lambda tokens: table[tokens],
            torch.zeros(3, 6, device=GPU),
            torch.ones(30, dtype=torch.bool, device=GPU),
        )
        assert on(GPU, [found.tokens, found.loss])
