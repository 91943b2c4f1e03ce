"""Files as people share them, after public reports: read as their loaders apply them, or named.

One test per kind. What is right was taken from the loaders named in each comment; before the
readers were mended, these were refused without a reason, read as something else, or left out.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tadasu.auditing.base import Base
from tadasu.auditing.configuration import Configuration
from tadasu.auditing.names import resolve
from tadasu.auditing.names_transformers import Style
from tadasu.auditing.read import read
from tadasu.errors import BadFile

KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"  # (8, 12)
SQUARE = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"  # (8, 8)
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def peft(path: Path, files: ModuleType, config: dict[str, Any], **tensors: Tensor) -> Path:
    """A folder as peft writes it, for one layer."""
    path.mkdir()
    inside = KEY.removeprefix("unet.")
    named = {
        f"base_model.model.{inside}.{key.replace('__', '.')}": value
        for key, value in tensors.items()
    }
    files.save(named, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(config))
    return path


def lora(rank: int = 2) -> dict[str, Tensor]:
    return {"lora_A__weight": rand(rank, 12), "lora_B__weight": rand(8, rank)}


def product(tensors: dict[str, Tensor]) -> Tensor:
    return tensors["lora_B__weight"] @ tensors["lora_A__weight"]


def pair(name: str, rows: int, columns: int, ends: tuple[str, str]) -> dict[str, Tensor]:
    return {f"{name}.{ends[0]}.weight": rand(rows, 2), f"{name}.{ends[1]}.weight": rand(2, columns)}


KOHYA = ("lora_up", "lora_down")
PEFT = ("lora_B", "lora_A")


@pytest.mark.parametrize(
    ("name", "target", "ends"),
    [
        # kohya-ss/sd-webui-additional-networks#133, AUTOMATIC1111/stable-diffusion-webui#11963
        ("lora_te_wrapped_transformer_text_model_encoder_layers_0_self_attn_q_proj", TEXT, KOHYA),
        ("lora_te_0_transformer_text_model_encoder_layers_0_self_attn_q_proj", TEXT, KOHYA),
        (f"{STEM}_", KEY, KOHYA),  # Comfy-Org/ComfyUI#4347
        (STEM.replace("_to_k", ".to_k"), KEY, KOHYA),
        (f"lora_unet.{KEY.removeprefix('unet.')}", KEY, PEFT),
        (KEY.replace("unet.", "unet._orig_mod.", 1), KEY, PEFT),
        (KEY.replace("unet.", "base_model.model._orig_mod.", 1), KEY, PEFT),
        (f"{KEY}.base_layer", KEY, PEFT),
    ],
)
@pytest.mark.parametrize("with_base", [True, False])
def test_prefixes(
    name: str,
    target: str,
    ends: tuple[str, str],
    with_base: bool,
    files: ModuleType,
    tmp_path: Path,
) -> None:
    rows, columns = files.SHAPES[target]
    tensors = pair(name, rows, columns, ends)
    path = files.save(tensors, tmp_path / "a.safetensors")
    adapter = read(path, files.base() if with_base else None)
    assert list(adapter.updates) == [target]
    assert adapter.coverage.share == 1
    up, down = tensors.values()
    torch.testing.assert_close(adapter.updates[target].delta(), up @ down)


def test_an_adapters_own_name(files: ModuleType, tmp_path: Path) -> None:
    tensors = {f"{KEY}.lora_A.ohwx.weight": rand(2, 12), f"{KEY}.lora_B.ohwx.weight": rand(8, 2)}
    adapter = read(files.save(tensors, tmp_path / "a.safetensors"))
    assert set(adapter.updates) == {KEY}
    two = tensors | {f"{KEY}.lora_A.other.weight": rand(2, 12)}
    with pytest.raises(BadFile, match="two tensors"):
        read(files.save(two, tmp_path / "b.safetensors"))


@pytest.mark.parametrize("old", [False, True])
def test_glora(old: bool, files: ModuleType, tmp_path: Path) -> None:
    """LyCORIS: W a₁ a₂ + b₁ b₂, its older files in the other order."""
    a1, a2, b1, b2 = rand(12, 2), rand(2, 12, seed=1), rand(8, 2, seed=2), rand(2, 12, seed=3)
    stored = {"a1": a2, "a2": a1, "b1": b2, "b2": b1} if old else dict(a1=a1, a2=a2, b1=b1, b2=b2)
    tensors = {f"{STEM}.{name}.weight": value for name, value in stored.items()}
    tensors[f"{STEM}.alpha"] = torch.tensor(1.0)
    base = files.base()
    update = read(files.save(tensors, tmp_path / "a.safetensors"), base).updates[KEY]
    weight = base.weight(KEY)
    torch.testing.assert_close(update.delta(weight), 0.5 * (weight @ a1 @ a2 + b1 @ b2))
    assert update.kind == "glora"
    part = update.rows([(2, 5)])
    torch.testing.assert_close(part.delta(weight[2:5]), update.delta(weight)[2:5])
    ambiguous = {f"{STEM}.{name}.weight": rand(8, 8) for name in ("a1", "a2", "b1", "b2")}
    path = files.save(ambiguous, tmp_path / "b.safetensors")
    with pytest.raises(BadFile, match="order"):
        read(path)


def test_dora_of_ai_toolkit(files: ModuleType, tmp_path: Path) -> None:
    """``magnitude`` per output (invoke-ai/InvokeAI#9517); 54 % off when taken for a LoRA."""
    tensors = pair(KEY, 8, 12, PEFT) | {f"{KEY}.magnitude": rand(8).abs() + 1}
    base = files.base()
    update = read(files.save(tensors, tmp_path / "a.safetensors"), base).updates[KEY]
    moved = base.weight(KEY) + tensors[f"{KEY}.lora_B.weight"] @ tensors[f"{KEY}.lora_A.weight"]
    size = tensors[f"{KEY}.magnitude"].reshape(-1, 1) / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(update.delta(base.weight(KEY)), moved * size - base.weight(KEY))


def test_eight_bits_with_a_scale(files: ModuleType, tmp_path: Path) -> None:
    """``X.scale_weight`` beside float8 (leejet/stable-diffusion.cpp#1898)."""
    up = rand(8, 2).to(torch.float8_e4m3fn)
    tensors = {
        f"{STEM}.lora_up.weight": up,
        f"{STEM}.lora_down.weight": rand(2, 12),
        f"{STEM}.lora_up.scale_weight": torch.tensor(4.0),
    }
    adapter = read(files.save(tensors, tmp_path / "a.safetensors"))
    torch.testing.assert_close(adapter.updates[KEY].delta(), 4 * up.float() @ rand(2, 12))
    assert adapter.coverage.share == 1
    odd = tensors | {f"{STEM}.lora_up.weight": rand(8, 2)}
    with pytest.raises(BadFile, match="eight bits"):
        read(files.save(odd, tmp_path / "b.safetensors"))
    whole = {k: v for k, v in tensors.items() if "scale" not in k}
    whole[f"{STEM}.lora_up.weight"] = torch.ones(8, 2, dtype=torch.int8)
    with pytest.raises(BadFile, match="shape"):  # quantised, and nothing says how
        read(files.save(whole, tmp_path / "c.safetensors"))


def test_a_bias_of_peft_and_a_bias_beside_factors(files: ModuleType, tmp_path: Path) -> None:
    tensors = lora() | {"lora_B__bias": rand(8)}
    path = peft(tmp_path / "a", files, {"peft_type": "LORA", "r": 2, "lora_alpha": 6}, **tensors)
    updates = read(path).updates
    torch.testing.assert_close(updates[f"{KEY}.bias"].delta(), 3 * rand(8))
    beside = pair(STEM, 8, 12, KOHYA) | {f"{STEM}.diff_b": rand(8)}  # was read without its factors
    updates = read(files.save(beside, tmp_path / "b.safetensors")).updates
    assert set(updates) == {KEY, f"{KEY}.bias"}


def test_whole_weights(files: ModuleType, tmp_path: Path) -> None:
    """ComfyUI's set_weight, and peft's modules_to_save: the weight is replaced."""
    base = files.base()
    new = rand(8, 12)
    for name in (f"{STEM}.set_weight", f"{KEY}.modules_to_save.default.weight"):
        adapter = read(files.save({name: new}, tmp_path / "a.safetensors"), base)
        delta = adapter.updates[KEY].delta(base.weight(KEY))
        torch.testing.assert_close(delta, new - base.weight(KEY))
    stem = "base_model.model.conv_in"
    path = peft(tmp_path / "p", files, {"peft_type": "LORA", "r": 2}, **lora())
    both = {f"{stem}.weight": rand(8, 4, 3, 3)}
    from safetensors.torch import load_file

    tensors = load_file(path / "adapter_model.safetensors") | both
    files.save(tensors, path / "adapter_model.safetensors")
    adapter = read(path, base)
    assert set(adapter.updates) == {KEY, "unet.conv_in"}
    delta = adapter.updates["unet.conv_in"].delta(base.weight("unet.conv_in"))
    torch.testing.assert_close(delta, rand(8, 4, 3, 3) - base.weight("unet.conv_in"))


def test_adalora(files: ModuleType, tmp_path: Path) -> None:
    """peft: B (A ∘ E) · alpha / (first rank + 1e-5); without lora_E it was another change."""
    tensors = {"lora_A": rand(3, 12), "lora_B": rand(8, 3), "lora_E": rand(3, 1)}
    config = {"peft_type": "ADALORA", "init_r": 6, "lora_alpha": 4, "r": 8}
    update = read(peft(tmp_path / "a", files, config, **tensors)).updates[KEY]
    expected = tensors["lora_B"] @ (tensors["lora_A"] * tensors["lora_E"]) * 4 / (6 + 1e-5)
    torch.testing.assert_close(update.delta(), expected)
    (tmp_path / "a" / "adapter_config.json").unlink()
    with pytest.raises(BadFile, match="AdaLoRA without"):
        read(tmp_path / "a")


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_starts_that_change_the_base(start: str, files: ModuleType, tmp_path: Path) -> None:
    """What loading takes out of the base (its principal part) is no change of the file."""
    base = files.base()
    weight = base.weight(KEY)
    if start == "pissa":
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        taken = left[:, :2] * values[:2] @ right[:2]
    else:
        q, r = torch.linalg.qr(weight)
        taken = 2 * q[:, :2] @ r[:2]
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "init_lora_weights": start}
    tensors = lora()
    update = read(peft(tmp_path / "a", files, config, **tensors), base).updates[KEY]
    torch.testing.assert_close(update.delta(weight), 2 * product(tensors) - taken)
    config["init_lora_weights"] = "pissa_niter_4"
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadFile, match="cannot be repeated"):
        read(tmp_path / "a", base)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 2}, 4.0),  # huggingface/diffusers#6087: peft's alpha is 8 where it is not named
        ({"r": 2, "lora_alpha": 1e-9, "alpha_pattern": {".*attn2.*": 4}}, 2.0),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {"attn2.to_.": 6}}, 3.0),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {"^down.*to_k": 6}}, 3.0),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {"^attn2.to_k": 6}}, 1.0),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {"n2.to_k": 6}}, 1.0),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {r"attn2\.to_k": 6, "to_k": 2}}, 3.0),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {r"down_blocks\.\d+.*(to_k|to_q)": 6}}, 3.0),
    ],
)
def test_scales_of_peft(
    config: dict[str, Any], scale: float, files: ModuleType, tmp_path: Path
) -> None:
    tensors = lora()
    update = read(peft(tmp_path / "a", files, {"peft_type": "LORA", **config}, **tensors))
    torch.testing.assert_close(update.updates[KEY].delta(), scale * product(tensors))


@pytest.mark.parametrize("pattern", ["(a+)+b", ".*.*.*x", "a{1,9}", "(", ".*" + "x" * 400])
def test_patterns_that_could_run_for_long_are_refused(pattern: str) -> None:
    config = Configuration(parts={"": {"alpha_pattern": {pattern: 4}}})
    with pytest.raises(BadFile, match="pattern"):
        config.settings(KEY, KEY)


def test_loaders_that_disagree_are_both_told(files: ModuleType, tmp_path: Path) -> None:
    """diffusers obeys the metadata, ComfyUI and kohya's scripts do not look at it."""
    tensors = pair(KEY, 8, 12, PEFT)
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 1e-9})}
    adapter = read(files.save(tensors, tmp_path / "a.safetensors", metadata), files.base())
    up, down = tensors.values()
    torch.testing.assert_close(adapter.updates[KEY].delta(), 5e-10 * up @ down)
    torch.testing.assert_close(adapter.other[KEY].delta(), up @ down)
    assert "Loaders disagree" in adapter.conflict
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 2})}
    adapter = read(files.save(tensors, tmp_path / "b.safetensors", metadata))
    assert (adapter.other, adapter.conflict) == ({}, "")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"peft_type": "VERA"}, "VERA. adapter of peft"),
        ({"peft_type": "LORA", "layer_replication": [[0, 1]]}, "layer_replication"),
        ({"peft_type": "LORA", "fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"peft_type": "LORA", "init_lora_weights": "corda"}, "cannot be repeated"),
    ],
)
def test_what_peft_has_and_is_not_read(
    config: dict[str, Any], reason: str, files: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(BadFile, match=reason):
        read(peft(tmp_path / "a", files, config, **lora()))


def test_an_unknown_option_is_a_doubt(files: ModuleType, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "use_tomorrows_lora": True}
    adapter = read(peft(tmp_path / "a", files, config, **lora()))
    assert "use_tomorrows_lora" in adapter.doubts[0]


KINDS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git-lfs"),
    "page": (b"\n<!DOCTYPE html><html><head><title>Log in</title></head></html>", "HTML"),
    "json": (b'{"error": "Access to model is restricted"}', "JSON"),
    "gguf": (b"GGUF\x03\0\0\0" + bytes(64), "GGUF"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_named_for_what_it_is(kind: str, tmp_path: Path) -> None:
    content, reason = KINDS[kind]
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(BadFile, match=reason):
        read(tmp_path / "a.safetensors")


def test_unread_adapters_are_named_by_their_tensors(files: ModuleType, tmp_path: Path) -> None:
    for tail, what in (("vera_lambda_b", "VeRA"), ("hra_u", "HRA"), ("boft_R", "BOFT")):
        path = files.save({f"somewhere.{tail}": rand(4)}, tmp_path / f"{tail}.safetensors")
        with pytest.raises(BadFile, match=what):
            read(path)


def test_a_torch_file_under_another_name_is_read(files: ModuleType, tmp_path: Path) -> None:
    torch.save(pair(STEM, 8, 12, KOHYA), tmp_path / "a.safetensors")
    assert zipfile.is_zipfile(tmp_path / "a.safetensors")
    assert set(read(tmp_path / "a.safetensors").updates) == {KEY}


# Coverage ----------------------------------------------------------------------------------------


def test_what_is_not_read_lowers_the_share(files: ModuleType, tmp_path: Path) -> None:
    small = pair(STEM, 8, 12, KOHYA)
    strange = {f"lora_unet_strange_{n}.lora_{end}.weight": rand(8, 8) for n in range(3)
               for end in ("up", "down")}  # fmt: skip
    adapter = read(files.save(small | strange, tmp_path / "a.safetensors"), files.base())
    assert adapter.coverage.modules == pytest.approx(1 / 4)
    assert adapter.coverage.values == pytest.approx(40 / (40 + 3 * 128))
    assert not adapter.coverage.whole
    assert "lora_unet_strange_0" in adapter.coverage.unread
    one = {"mystery.tensor": rand(400)}
    adapter = read(files.save(small | one, tmp_path / "b.safetensors"))
    assert adapter.coverage.share == pytest.approx(40 / 440)


def test_modules_of_another_base_lower_the_share(files: ModuleType, tmp_path: Path) -> None:
    tensors = pair(STEM, 8, 12, KOHYA) | pair(
        "lora_te2_text_model_encoder_layers_0_mlp_fc1", 8, 12, KOHYA
    )
    adapter = read(files.save(tensors, tmp_path / "a.safetensors"), files.base())
    assert adapter.coverage.share == pytest.approx(1 / 2)


def test_padding_with_zeros_does_not_raise_both_shares(files: ModuleType, tmp_path: Path) -> None:
    hidden = {f"lora_unet_strange_{n}.lora_{end}.weight": rand(8, 2) for n in range(20)
              for end in ("up", "down")}  # fmt: skip
    big = {
        f"{STEM}.lora_up.weight": torch.zeros(8, 900),
        f"{STEM}.lora_down.weight": torch.zeros(900, 12),
    }
    adapter = read(files.save(hidden | big, tmp_path / "a.safetensors"), files.base())
    assert adapter.coverage.values > 0.9
    assert adapter.coverage.share == pytest.approx(1 / 21)


def test_an_embedding_packed_into_a_lora(files: ModuleType, tmp_path: Path) -> None:
    """OneTrainer: bundle_emb.<word>.clip_l."""
    tensors = pair(STEM, 8, 12, KOHYA) | {
        "bundle_emb.ohwx.clip_l": rand(3, 16),
        "bundle_emb.ohwx.string_to_param.*": rand(3, 16),
    }
    adapter = read(files.save(tensors, tmp_path / "a.safetensors"))
    torch.testing.assert_close(adapter.embeddings["text_encoder"], rand(3, 16))
    assert adapter.coverage.share == pytest.approx(40 / (40 + 96))  # nobody examines its words
    assert "bundle_emb.ohwx" in adapter.coverage.unread


def test_another_family_is_told_to_use_its_base(files: ModuleType, tmp_path: Path) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    path = files.save(pair(name, 1280, 2048, KOHYA), tmp_path / "a.safetensors")
    sd1 = Base.of(
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": rand(1280, 768)}
    )
    with pytest.raises(BadFile, match="--base with a sdxl model"):
        read(path, sd1)


@pytest.mark.parametrize(
    ("raw", "style", "names"),
    [
        (
            "diffusion_model.single_blocks.3.linear1",
            "flux2",
            ["single_transformer_blocks.3.attn.to_qkv_mlp_proj"],
        ),
        ("lora_unet_double_blocks_0_img_mlp_0", "flux2", ["transformer_blocks.0.ff.linear_in"]),
        ("lora_unet_blocks_7_cross_attn_k_img", "wan", ["blocks.7.attn2.add_k_proj"]),
        ("diffusion_model.blocks.7.ffn.0", "wan", ["blocks.7.ffn.net.0.proj"]),
        ("diffusion_model.layers.2.feed_forward.w3", "lumina", ["layers.2.feed_forward.linear_3"]),
        (
            "lora_unet_layers_2_attention_qkv",
            "z-image",
            [f"layers.2.attention.to_{each}" for each in "qkv"],
        ),
        ("lora_unet_img_in", "qwen", ["img_in"]),
        ("lora_unet_img_in", "", ["x_embedder"]),
    ],
)
def test_original_names_of_transformers(raw: str, style: str, names: list[str]) -> None:
    found = resolve(raw, None, Style(style))
    assert found is not None
    assert [target.name for target in found.targets] == [f"transformer.{name}" for name in names]
