"""Each format against its formula, written out in float64 loops over entries or channels.

The numbers were compared with those of LyCORIS 4.1.3's own modules, file by file, when the readers
were written; that library is not needed to run this.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tadasu.auditing import formats
from tadasu.auditing.adapter import Factored, Update
from tadasu.auditing.read import read
from tadasu.errors import BadInput

CONV = "unet.conv_in"  # (8, 4, 3, 3)
KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"  # (8, 12)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def one(files: ModuleType, tmp_path: Path, name: str, tensors: dict[str, Tensor]) -> Update:
    """The update of one module in kohya's names, read against the base."""
    stem = files.kohya_name(name)
    path = files.save({f"{stem}.{k}": v for k, v in tensors.items()}, tmp_path / "a.safetensors")
    return read(path, files.base()).updates[name]


def entrywise(shape: tuple[int, ...], value: object) -> Tensor:
    """A tensor from a function of its indices."""
    assert callable(value)
    flat = [value(*at) for at in itertools.product(*map(range, shape))]
    return torch.tensor(flat, dtype=torch.float64).reshape(shape)


def close(update: Update, expected: Tensor, weight: Tensor | None = None) -> None:
    delta = update.delta(weight)
    assert delta.dtype == torch.float32
    torch.testing.assert_close(delta.double(), expected, rtol=1e-4, atol=1e-5)
    assert update.norm(weight) == pytest.approx(float(expected.norm()), rel=1e-4)
    factors = update.factors()
    if factors is not None:
        product = (factors[0] @ factors[1]).reshape(update.shape)
        torch.testing.assert_close(product.double(), expected, rtol=1e-4, atol=1e-5)


def test_lora_mid(files: ModuleType, tmp_path: Path) -> None:
    up, mid, down = rand(8, 2, 1, 1), rand(2, 3, 3, 3), rand(3, 4, 1, 1)
    tensors = {"lora_up.weight": up, "lora_mid.weight": mid, "lora_down.weight": down}
    update = one(files, tmp_path, CONV, {**tensors, "alpha": torch.tensor(4.0)})

    def entry(o: int, i: int, y: int, x: int) -> float:
        return sum(
            2 * float(up[o, p, 0, 0] * mid[p, q, y, x] * down[q, i, 0, 0])
            for p in range(2)
            for q in range(3)
        )

    close(update, entrywise((8, 4, 3, 3), entry))
    assert update.rank == 2


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_loha(rank: int, files: ModuleType, tmp_path: Path) -> None:
    parts = {f"hada_w{n}_{half}": rand(*size, seed=n) for n in (1, 2)
             for half, size in (("a", (8, rank)), ("b", (rank, 12)))}  # fmt: skip
    update = one(files, tmp_path, KEY, {**parts, "alpha": torch.tensor(3.0)})
    first = parts["hada_w1_a"].double() @ parts["hada_w1_b"].double()
    second = parts["hada_w2_a"].double() @ parts["hada_w2_b"].double()
    close(update, first * second * 3 / rank)
    assert (update.factors() is None) == (rank == 4)  # 16 > 8: no smaller than the weight


def test_loha_with_cores(files: ModuleType, tmp_path: Path) -> None:
    parts = {"hada_t1": rand(2, 2, 3, 3), "hada_t2": rand(2, 2, 3, 3, seed=1),
             "hada_w1_a": rand(2, 8), "hada_w1_b": rand(2, 4),
             "hada_w2_a": rand(2, 8, seed=1), "hada_w2_b": rand(2, 4, seed=1)}  # fmt: skip
    update = one(files, tmp_path, CONV, parts)

    def half(n: int, o: int, i: int, y: int, x: int) -> float:
        core, a, b = (parts[f"hada_{key}"] for key in (f"t{n}", f"w{n}_a", f"w{n}_b"))
        return sum(float(core[p, q, y, x] * a[p, o] * b[q, i]) for p in range(2) for q in range(2))

    close(update, entrywise((8, 4, 3, 3), lambda *at: half(1, *at) * half(2, *at)))


def lokr(w1: Tensor, w2: Tensor, scale: float) -> Tensor:
    outputs, inputs = w2.shape[:2]
    shape = (w1.shape[0] * outputs, w1.shape[1] * inputs, *w2.shape[2:])

    def entry(o: int, i: int, *at: int) -> float:
        return scale * float(w1[o // outputs, i // inputs] * w2[(o % outputs, i % inputs, *at)])

    return entrywise(shape, entry)


def test_lokr_whole_halves_have_no_scale(files: ModuleType, tmp_path: Path) -> None:
    w1, w2 = rand(2, 3), rand(4, 4)
    tensors = {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(5.0)}
    close(one(files, tmp_path, KEY, tensors), lokr(w1, w2, 1.0))


def test_lokr_factored_halves(files: ModuleType, tmp_path: Path) -> None:
    a1, b1, a2, b2 = rand(2, 1), rand(1, 3), rand(4, 1), rand(1, 4)
    names = ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "alpha")
    values = (a1, b1, a2, b2, torch.tensor(5.0))
    update = one(files, tmp_path, KEY, dict(zip(names, values, strict=True)))
    close(update, lokr(a1 @ b1, a2 @ b2, 5.0))
    assert update.rank == 1


def test_lokr_convolution(files: ModuleType, tmp_path: Path) -> None:
    w1, a2, b2 = rand(2, 2), rand(4, 2), rand(2, 2, 3, 3)
    tensors = {"lokr_w1": w1, "lokr_w2_a": a2, "lokr_w2_b": b2, "alpha": torch.tensor(1.0)}
    second = (a2 @ b2.flatten(1)).reshape(4, 2, 3, 3)
    update = one(files, tmp_path, CONV, tensors)
    close(update, lokr(w1, second, 0.5))
    assert update.rank == 4
    core = rand(2, 2, 3, 3)
    tensors = {"lokr_w1": w1, "lokr_t2": core, "lokr_w2_a": rand(2, 4), "lokr_w2_b": rand(2, 2)}
    second = torch.einsum("pqyx,po,qi->oiyx", core, rand(2, 4), rand(2, 2))
    close(one(files, tmp_path, CONV, tensors), lokr(w1, second, 1.0))


@pytest.mark.parametrize("on_input", [0, 1])
def test_ia3(on_input: int, files: ModuleType, tmp_path: Path) -> None:
    change = rand(12 if on_input else 8)
    update = one(files, tmp_path, KEY, {"weight": change, "on_input": torch.tensor(on_input)})
    weight = files.base().weight(KEY)
    expected = weight.double() * (change if on_input else change[:, None]).double()
    assert update.needs_weight
    close(update, expected, weight)
    with pytest.raises(BadInput, match="depends on the base weight"):
        update.delta()
    with pytest.raises(BadInput, match="has shape"):
        update.delta(torch.ones(3, 3))


@pytest.mark.parametrize(("name", "axis"), [(KEY, 0), (KEY, 1), (CONV, 0), (CONV, 1)])
def test_dora(name: str, axis: int, files: ModuleType, tmp_path: Path) -> None:
    up, down = files.factors(2)[name]
    shape = files.SHAPES[name]
    size = [1] * len(shape)
    size[axis] = shape[axis]
    magnitude = rand(*size).abs() + 0.5
    if axis == 0:
        magnitude = magnitude.reshape(-1) if name == KEY else magnitude
    tensors = {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": magnitude}
    update = one(files, tmp_path, name, tensors)
    weight = files.base().weight(name)
    moved = (weight + (up.flatten(1) @ down.flatten(1)).reshape(shape)).double()
    expected = moved.clone()
    for channel in range(shape[axis]):
        part = moved.select(axis, channel)
        expected.select(axis, channel).copy_(
            part / part.norm() * magnitude.double().reshape(-1)[channel]
        )
    close(update, expected - weight.double(), weight)
    assert update.kind == "dora"
    assert update.factors() is None


def cayley(skew: Tensor) -> Tensor:
    unit = torch.eye(skew.shape[-1], dtype=torch.float64)
    rotation: Tensor = (unit + skew) @ torch.linalg.pinv(unit - skew)
    return rotation


def test_oft_rotates_outputs(files: ModuleType, tmp_path: Path) -> None:
    blocks, rescale = rand(2, 4, 4) * 0.2, rand(8, 1).abs()
    update = one(files, tmp_path, KEY, {"oft_blocks": blocks, "rescale": rescale})
    weight = files.base().weight(KEY)
    rows = [
        cayley((block - block.T).double()).T @ weight.double()[at * 4 : at * 4 + 4]
        for at, block in enumerate(blocks)
    ]
    close(update, torch.cat(rows) * rescale.double() - weight.double(), weight)


def test_oft_is_limited_by_alpha(files: ModuleType, tmp_path: Path) -> None:
    blocks = rand(2, 4, 4)
    limited = one(files, tmp_path, KEY, {"oft_blocks": blocks, "alpha": torch.tensor(0.01)})
    skew = blocks - blocks.mT
    small = one(files, tmp_path, KEY, {"oft_blocks": skew * 0.01 * 8 / skew.norm() / 2})
    weight = files.base().weight(KEY)
    torch.testing.assert_close(limited.delta(weight), small.delta(weight))
    lengths = (weight + limited.delta(weight)).norm()
    torch.testing.assert_close(lengths, weight.norm())  # a rotation keeps every length


def test_boft_keeps_lengths_and_mixes_far_rows(files: ModuleType, tmp_path: Path) -> None:
    update = one(files, tmp_path, KEY, {"oft_blocks": rand(3, 4, 2, 2)})
    weight = files.base().weight(KEY)
    turned = weight + update.delta(weight)
    torch.testing.assert_close(turned.norm(dim=0), weight.norm(dim=0))
    spike = torch.zeros(8, 12)
    spike[0] = 1.0
    assert int(((spike + update.delta(spike)).abs().sum(dim=1) > 1e-6).sum()) == 8


def test_diff_and_bias(files: ModuleType, tmp_path: Path) -> None:
    stem = files.kohya_name(CONV)
    tensors = {f"{stem}.diff": rand(8, 4, 3, 3), f"{stem}.diff_b": rand(8)}
    updates = read(files.save(tensors, tmp_path / "a.safetensors")).updates
    torch.testing.assert_close(updates[CONV].delta(), rand(8, 4, 3, 3))
    torch.testing.assert_close(updates[f"{CONV}.bias"].delta(), rand(8))
    assert updates[CONV].factors() is None


def test_rows_of_every_kind(files: ModuleType, tmp_path: Path) -> None:
    """A fused layer's update, cut to some rows, is those rows of the whole."""
    weight = files.base().weight(KEY)
    up, down = files.factors(2)[KEY]
    kinds: dict[str, dict[str, Tensor]] = {
        "lora": {"lora_up.weight": up, "lora_down.weight": down},
        "loha": {f"hada_w{n}_{h}": rand(*s, seed=n) for n in (1, 2)
                 for h, s in (("a", (8, 2)), ("b", (2, 12)))},
        "lokr": {"lokr_w1": rand(2, 3), "lokr_w2": rand(4, 4)},
        "diff": {"diff": rand(8, 12)},
        "ia3": {"weight": rand(8), "on_input": torch.tensor(0)},
        "dora": {"lora_up.weight": up, "lora_down.weight": down, "dora_scale": rand(8, 1).abs()},
    }  # fmt: skip
    for kind, tensors in kinds.items():
        update = one(files, tmp_path, KEY, tensors)
        pieces = [(6, 8), (1, 3)]
        cut = update.rows(pieces)
        picked = [6, 7, 1, 2]
        assert cut.shape == (4, 12)
        assert cut.kind == kind
        whole = update.delta(weight if update.needs_weight else None)[picked]
        part = weight[picked] if update.needs_weight else None
        torch.testing.assert_close(cut.delta(part), whole)
        assert cut.norm(part) == pytest.approx(float(whole.norm()), rel=1e-4)
    rotation = one(files, tmp_path, KEY, {"oft_blocks": rand(2, 4, 4)})
    with pytest.raises(BadInput, match="cannot be cut"):
        rotation.rows([(0, 4)])


def test_a_linear_update_fits_a_one_by_one_convolution(files: ModuleType, tmp_path: Path) -> None:
    name = "unet.down_blocks.0.attentions.0.proj_in"
    tensors = {"lora_up.weight": rand(8, 2), "lora_down.weight": rand(2, 8)}
    assert one(files, tmp_path, name, tensors).shape == (8, 8, 1, 1)


def test_factors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="do not fit"):
        Factored(up=rand(8, 2), down=rand(3, 4))
    with pytest.raises(BadInput, match="do not fit a weight"):
        Factored(up=rand(8, 2), down=rand(2, 4), shape=(4, 8))


def test_every_format_keeps_the_contract() -> None:
    found = formats.formats()
    assert set(found) == {
        "diff",
        "dora",
        "glora",
        "ia3",
        "loha",
        "lokr",
        "lora",
        "oft",
        "whole",
    }
    assert next(iter(found)) == "dora"  # it wraps others, so it must be asked first
    for module in found.values():
        assert module.TAILS
        assert not module.claims(frozenset())
        assert module.build.__doc__
