"""Copies are recognised whatever was done to them; strangers are not."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tadasu.auditing.adapter import Adapter, Factored
from tadasu.auditing.lineage import GROUPS, SIZE, by_group, cosine, signs, sketch
from tadasu.auditing.lineage_index import Index, Thresholds
from tadasu.auditing.read import read
from tadasu.errors import BadFile, BadInput

NAMES = [f"known-{number}" for number in range(6)]


def adapter(files: ModuleType, tmp_path: Path, seed: int, rank: int = 4) -> Adapter:
    path = files.save(files.kohya(files.factors(rank, seed), 2.0), tmp_path / f"{seed}.safetensors")
    return read(path)


def changed(original: Adapter, make: Any) -> Adapter:
    """The same file with each update's factors replaced."""
    updates = {}
    for name, update in original.updates.items():
        found = update.factors()
        assert found is not None
        up, down = make(*found)
        updates[name] = Factored(up=up, down=down, shape=update.shape)
    return Adapter(
        path=original.path,
        digest="0" * 64,
        format="lora",
        layout="kohya",
        family="unknown",
        updates=updates,
        metadata=original.metadata,
    )


def turned(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Other factors of the same product."""
    mix = torch.randn(up.shape[1], up.shape[1], generator=torch.Generator().manual_seed(9))
    return up @ mix, torch.linalg.solve(mix, down)


def cut(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Half the rank, by singular values."""
    u, s, v = torch.linalg.svd(up @ down, full_matrices=False)
    keep = up.shape[1] // 2
    return u[:, :keep] * s[:keep], v[:keep]


COPIES = {
    "other factors": (turned, 0.9999),
    "rescaled": (lambda up, down: (up * 0.01, down), 0.9999),
    "cast": (lambda up, down: (up.bfloat16(), down.bfloat16()), 0.999),
    "half the rank": (cut, 0.6),
}


@pytest.fixture
def known(files: ModuleType, tmp_path: Path) -> list[Adapter]:
    return [adapter(files, tmp_path, seed) for seed in range(len(NAMES))]


@pytest.fixture
def index(known: list[Adapter]) -> Index:
    return Index.of([sketch(each) for each in known], NAMES)


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_recognised(way: str, known: list[Adapter], index: Index) -> None:
    make, least = COPIES[way]
    copy = sketch(changed(known[3], make))
    assert cosine(copy, sketch(known[3])) > least
    match = index.match(copy)
    assert match.parts[0].entry.name == "known-3"
    assert match.kind == ("derived" if way == "half the rank" else "copy")
    if way == "rescaled":
        assert match.parts[0].weight == pytest.approx(0.01, rel=1e-3)


def test_the_same_bytes_are_identical(known: list[Adapter], index: Index) -> None:
    match = index.match(sketch(known[2]))
    assert (match.kind, match.residual) == ("identical", 0.0)
    assert match.parts[0].entry.name == "known-2"


def test_strangers_are_not_recognised(files: ModuleType, tmp_path: Path, index: Index) -> None:
    for seed in range(50, 60):
        match = index.match(sketch(adapter(files, tmp_path, seed)))
        assert not match.known
        assert match.residual == 1.0


def test_a_merge_names_its_parts_and_the_rest(
    files: ModuleType, tmp_path: Path, known: list[Adapter], index: Index
) -> None:
    stranger = adapter(files, tmp_path, 77)
    both = together(known[1], known[4])
    match = index.match(sketch(both))
    assert match.kind == "merged"
    assert {part.entry.name for part in match.parts} == {"known-1", "known-4"}
    assert [part.weight for part in match.parts] == pytest.approx([1.0, 1.0], rel=1e-3)
    assert match.residual < 1e-6
    match = index.match(sketch(together(known[1], stranger)))
    assert [part.entry.name for part in match.parts] == ["known-1"]
    assert 0.3 < match.residual < 0.7


def together(one: Adapter, other: Adapter) -> Adapter:
    names = iter(one.updates)
    return changed(one, lambda up, down: added(other, next(names), up, down))


def added(other: Adapter, name: str, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    found = other.updates[name].factors()
    assert found is not None
    return torch.cat([up, found[0]], 1), torch.cat([down, found[1]])


def test_one_kind_of_weights_alone_is_recognised(known: list[Adapter], index: Index) -> None:
    """A copy whose other weights were drowned in noise."""

    def drowned(up: Tensor, down: Tensor, names: Any) -> tuple[Tensor, Tensor]:
        if ".attn2." in next(names):
            return up, down
        return torch.randn(up.shape) * 50, torch.randn(down.shape)

    torch.manual_seed(0)
    names = iter(known[5].updates)
    match = index.match(sketch(changed(known[5], lambda up, down: drowned(up, down, names))))
    assert match.kind == "derived"
    assert match.group == "cross"
    assert match.parts[0].entry.name == "known-5"


def test_the_sketch_estimates_inner_products(known: list[Adapter]) -> None:
    first, second = known[0], changed(together(known[0], known[1]), lambda up, down: (up, down))
    dot = sum(
        float((update.delta() * second.updates[name].delta()).sum())
        for name, update in first.updates.items()
    )
    size = [
        sum(update.norm() ** 2 for update in each.updates.values()) ** 0.5
        for each in (first, second)
    ]
    assert cosine(sketch(first), sketch(second)) == pytest.approx(dot / size[0] / size[1], abs=0.12)
    assert sketch(first).norm / SIZE**0.5 == pytest.approx(size[0], rel=0.2)


def test_signs_never_change() -> None:
    """An index made today must be readable for good: these bits are fixed."""
    assert signs("left", 4).shape == (SIZE, 4)
    assert signs("left", 4)[:2].tolist() == FIRST_SIGNS
    assert len(GROUPS) == 5


FIRST_SIGNS = [[-1.0, -1.0, -1.0, 1.0], [1.0, -1.0, 1.0, 1.0]]


def test_an_index_survives_saving(tmp_path: Path, known: list[Adapter], index: Index) -> None:
    index.save(tmp_path / "known.safetensors")
    loaded = Index.load(tmp_path / "known.safetensors")
    assert loaded.entries == index.entries
    match = loaded.match(sketch(changed(known[3], turned)))
    assert match.kind == "copy"
    assert match.parts[0].weight == pytest.approx(1.0, rel=1e-2)
    more = loaded.with_entry(sketch(known[0]), "again", "banned in May")
    assert more.entries[-1].note == "banned in May"
    assert more.rows.shape[0] == len(NAMES) + 1


def test_another_file_is_no_index(files: ModuleType, tmp_path: Path, known: list[Adapter]) -> None:
    with pytest.raises(BadFile, match="no index"):
        Index.load(known[0].path)
    with pytest.raises(BadInput, match="names"):
        Index.of([sketch(known[0])], [])


def test_an_empty_index_and_an_empty_file(known: list[Adapter], index: Index) -> None:
    assert not Index.of([], []).match(sketch(known[0])).known
    nothing = changed(known[0], lambda up, down: (up * 0, down))
    assert not index.match(sketch(nothing)).known


def test_dora_is_the_lora_inside_without_a_base(
    files: ModuleType, tmp_path: Path, known: list[Adapter]
) -> None:
    tensors = files.kohya(files.factors(4, 0), 2.0)
    for name, shape in files.SHAPES.items():
        tensors[f"{files.kohya_name(name)}.dora_scale"] = torch.ones(shape[0])
    dora = read(files.save(tensors, tmp_path / "dora.safetensors"))
    assert dora.format == "dora"
    assert cosine(sketch(dora), sketch(known[0])) == pytest.approx(1.0, abs=1e-5)
    against = sketch(dora, files.base())
    assert against.skipped == ()
    assert cosine(against, sketch(known[0])) < 0.99


def test_thresholds_decide(known: list[Adapter], index: Index) -> None:
    copy = sketch(changed(known[3], cut))
    assert not index.match(copy, Thresholds(derived=0.99, group=0.999)).known
    assert set(by_group(copy, copy)) == {"text", "cross", "self", "feed", "other"}
