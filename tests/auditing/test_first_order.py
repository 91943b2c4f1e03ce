"""Inner products with gradients: exact where bases are wide enough, small where they are not."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tadasu.auditing.adapter import Dense, Factored
from tadasu.auditing.cascade import spreads
from tadasu.auditing.first_order import build
from tadasu.auditing.probe import Block, Plan

SHAPES = {"unet.a.weight": (6, 5), "unet.b.weight": (4, 3, 3, 3)}
PLAN = Plan(times=(0.5,))


class Named:
    """A base with two weights; its gradients are drawn per concept."""

    identity, steps = "named", 1000

    def __init__(self) -> None:
        self.calls = 0

    def parameter(self, name: str) -> Tensor | None:
        return torch.zeros(SHAPES[name]) if name in SHAPES else None

    def levels(self, times: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(len(times)), torch.zeros(len(times))

    def target(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        del noise, times
        return clean

    def slope(self, noised: Tensor, target: Tensor, times: Tensor, text: str) -> dict[str, Tensor]:
        del target, times, text
        self.calls += 1
        return gradients(int(noised.flatten()[0])) | {"error": torch.tensor(2.0)}


def gradients(concept: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(concept)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def blocks(count: int = 3) -> list[Block]:
    return [Block(concept=str(at), latents=torch.full((1, 1, 1, 1), at)) for at in range(count)]


def updates() -> dict[str, Factored | Dense]:
    generator = torch.Generator().manual_seed(50)
    up, down = torch.randn(6, 2, generator=generator), torch.randn(2, 5, generator=generator)
    change = torch.randn(4, 3, 3, 3, generator=generator)
    return {"unet.a": Factored(up=up, down=down, scale=0.5), "unet.b": Dense(change=change)}


def test_wide_bases_give_the_exact_product() -> None:
    base = Named()
    bank = build(base, base.slope, blocks(), PLAN, rank=30, width=30)  # type: ignore[arg-type]
    found = bank.gains(updates(), base.parameter)
    for at in range(3):
        wanted = -sum(
            float((gradients(at)[f"{name}.weight"] * update.delta()).sum())
            for name, update in updates().items()
        )
        assert float(found[at]) == pytest.approx(wanted / 2.0, rel=1e-4)


def test_layers_sum_to_the_whole() -> None:
    base = Named()
    bank = build(base, base.slope, blocks(), PLAN, rank=3, width=4)  # type: ignore[arg-type]
    layers = bank.layers([updates()], base.parameter, "1")
    assert set(layers) == set(SHAPES)
    total = float(bank.gains(updates(), base.parameter)[1])
    assert sum(layers.values()) == pytest.approx(total, rel=1e-4)


def test_bases_are_orthonormal_and_small() -> None:
    base = Named()
    bank = build(base, base.slope, blocks(), PLAN, rank=2, width=3)  # type: ignore[arg-type]
    for site in bank.sites.values():
        for basis in (site.left, site.right):
            assert basis.shape[1] <= 3
            assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5)


def test_gradients_are_computed_once(tmp_path: Path) -> None:
    base = Named()
    first = build(base, base.slope, blocks(), PLAN, folder=tmp_path)  # type: ignore[arg-type]
    again = build(base, base.slope, blocks(), PLAN, folder=tmp_path)  # type: ignore[arg-type]
    assert base.calls == 3
    ours, theirs = (bank.gains(updates(), base.parameter) for bank in (first, again))
    assert torch.allclose(ours, theirs, rtol=1e-5)
    build(base, base.slope, blocks(2), PLAN, folder=tmp_path)  # type: ignore[arg-type]
    assert base.calls == 5


def test_what_the_base_lacks_adds_nothing(closed_form: ModuleType) -> None:
    base = Named()
    bank = build(base, base.slope, blocks(), PLAN)  # type: ignore[arg-type]
    found = bank.gains(closed_form.knows(1), base.parameter)
    assert torch.equal(found, torch.zeros(3))
    assert set(spreads(found, bank.concepts).values()) == {0.0}
