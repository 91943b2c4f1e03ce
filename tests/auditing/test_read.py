"""The same update, written in every layout, reads to the same changes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tadasu.auditing.base import Base
from tadasu.auditing.names import resolve
from tadasu.auditing.names_original import from_original
from tadasu.auditing.read import read
from tadasu.errors import BadFile

ALPHA, RANK = 6.0, 2


def diffusers(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    half = (ALPHA / RANK) ** 0.5
    tensors = {}
    for name, (up, down) in pairs.items():
        tensors[f"{name}.lora_A.weight"] = down * half
        tensors[f"{name}.lora_B.weight"] = up * half
    return tensors


def peft_alpha(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    tensors = {}
    for name, (up, down) in pairs.items():
        tensors[f"{name}.lora_A.default.weight"] = down
        tensors[f"{name}.lora_B.default.weight"] = up
    return tensors


def old_diffusers(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Attention processors, as diffusers wrote them until 0.17; alpha beside them."""
    tensors = {}
    for name, (up, down) in pairs.items():
        if ".attn" in name and "unet." in name:
            stem, _, last = name.replace(".to_out.0", ".to_out").rpartition(".")
            stem = f"{stem}.processor.{last}_lora"
        elif "self_attn" in name:
            stem = name.replace("q_proj", "to_q_lora")
        else:
            stem = f"{name}.lora_linear_layer"
        tensors[f"{stem}.down.weight"] = down * ALPHA / RANK
        tensors[f"{stem}.up.weight"] = up
    return tensors


def comfyui(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Original names, dots, for a U-Net with one layer per block."""
    names = {
        "unet.conv_in": "diffusion_model.input_blocks.0.0",
        "unet.down_blocks.0.attentions.0": "diffusion_model.input_blocks.1.1",
        "unet.down_blocks.0.resnets.0.conv1": "diffusion_model.input_blocks.1.0.in_layers.2",
        "unet.down_blocks.0.resnets.0.time_emb_proj": (
            "diffusion_model.input_blocks.1.0.emb_layers.1"
        ),
        "unet.mid_block.attentions.0": "diffusion_model.middle_block.1",
        "unet.up_blocks.0.attentions.1": "diffusion_model.output_blocks.1.1",
        "text_encoder.": "text_encoders.clip_l.transformer.",
    }
    tensors = {}
    for name, (up, down) in pairs.items():
        new = next(name.replace(old, new, 1) for old, new in names.items() if name.startswith(old))
        tensors[f"{new}.lora_down.weight"] = down
        tensors[f"{new}.lora_up.weight"] = up
        tensors[f"{new}.alpha"] = torch.tensor(ALPHA)
    return tensors


def sgm_kohya(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The original names joined by underscores, as kohya's scripts write SDXL."""
    tensors = {}
    for key, tensor in comfyui(pairs).items():
        tail = next(t for t in (".lora_down.weight", ".lora_up.weight", ".alpha") if t in key)
        stem = key.removesuffix(tail).replace(".", "_")
        stem = stem.replace("diffusion_model", "lora_unet", 1)
        stem = stem.replace("text_encoders_clip_l_transformer", "lora_te1", 1)
        tensors[f"{stem}{tail}"] = tensor
    return tensors


def one_trainer(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    from_kohya = {}
    for name, (up, down) in pairs.items():
        part, _, rest = name.partition(".")
        stem = f"lora_{'unet' if part == 'unet' else 'te1'}_{rest.replace('.', '_')}"
        from_kohya[f"{stem}.lora_down.weight"] = down.half().float()
        from_kohya[f"{stem}.lora_up.weight"] = up.half().float()
        from_kohya[f"{stem}.alpha"] = torch.tensor(ALPHA, dtype=torch.bfloat16)
    return from_kohya


def peft_metadata(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, str]:
    settings: dict[str, object] = {
        f"{part}.{key}": value
        for part in ("unet", "text_encoder")
        for key, value in (("r", RANK), ("lora_alpha", ALPHA), ("alpha_pattern", {}))
    }
    return {"lora_adapter_metadata": json.dumps(settings)}


LAYOUTS = {
    "diffusers": (diffusers, 1e-4),
    "old_diffusers": (old_diffusers, 1e-4),
    "comfyui": (comfyui, 1e-4),
    "sgm_kohya": (sgm_kohya, 1e-4),
    "one_trainer": (one_trainer, 2e-2),
}


@pytest.fixture
def pairs(files: ModuleType) -> Any:
    return files.factors(RANK)


def same(path: Path, expected: dict[str, Tensor], base: Base | None, tolerance: float) -> None:
    adapter = read(path, base)
    assert set(adapter.updates) == set(expected)
    assert adapter.unmatched == ()
    for name, update in adapter.updates.items():
        assert update.shape == tuple(expected[name].shape)
        torch.testing.assert_close(
            update.delta().double(), expected[name], rtol=tolerance, atol=tolerance * 10
        )
        assert update.norm() == pytest.approx(float(expected[name].norm()), rel=tolerance * 10)
        found = update.factors()
        assert found is not None
        up, down = found
        assert down.shape[0] == update.rank == RANK
        torch.testing.assert_close((up @ down).reshape(update.shape), update.delta())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_read_to_the_same_updates(
    layout: str, files: ModuleType, pairs: Any, tmp_path: Path
) -> None:
    write, tolerance = LAYOUTS[layout]
    path = files.save(write(pairs), tmp_path / f"{layout}.safetensors")
    same(path, files.deltas(pairs, ALPHA / RANK), one_layer(files), tolerance)


def one_layer(files: ModuleType) -> Base:
    """The base with one residual layer per block, as the file names count them."""
    held: Base = files.base()
    assert held.layers_per_block == 1
    return held


@pytest.mark.parametrize("with_base", [True, False])
def test_kohya_with_and_without_a_base(
    with_base: bool, files: ModuleType, pairs: Any, tmp_path: Path
) -> None:
    path = files.save(files.kohya(pairs, ALPHA), tmp_path / "a.safetensors")
    same(path, files.deltas(pairs, ALPHA / RANK), files.base() if with_base else None, 1e-4)
    assert read(path).layout == "kohya"
    assert read(path).format == "lora"


@pytest.mark.parametrize("alpha", [None, 0.0, float(RANK)])
def test_no_alpha_and_zero_alpha_mean_no_scale(
    alpha: float | None, files: ModuleType, pairs: Any, tmp_path: Path
) -> None:
    path = files.save(files.kohya(pairs, alpha), tmp_path / "a.safetensors")
    same(path, files.deltas(pairs), None, 1e-4)


def test_alpha_from_the_metadata_of_diffusers(
    files: ModuleType, pairs: Any, tmp_path: Path
) -> None:
    path = files.save(peft_alpha(pairs), tmp_path / "a.safetensors", peft_metadata(pairs))
    same(path, files.deltas(pairs, ALPHA / RANK), None, 1e-4)


def test_a_bias_and_norm_beside_factors(files: ModuleType, pairs: Any, tmp_path: Path) -> None:
    name = "unet.conv_in"
    tensors = files.kohya({name: pairs[name]}, None)
    tensors["lora_unet_conv_norm_out.w_norm"] = torch.full((8,), 2.0)
    tensors["lora_unet_conv_norm_out.b_norm"] = torch.full((8,), 3.0)
    updates = read(files.save(tensors, tmp_path / "a.safetensors")).updates
    assert set(updates) == {name, "unet.conv_norm_out", "unet.conv_norm_out.bias"}
    assert updates["unet.conv_norm_out.bias"].delta().tolist() == [3.0] * 8
    assert updates["unet.conv_norm_out"].kind == "norm"


def test_flux_fused_rows_are_split(files: ModuleType, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    qkv = torch.randn(12, 2, generator=generator), torch.randn(2, 4, generator=generator)
    one = torch.randn(28, 2, generator=generator), torch.randn(2, 4, generator=generator)
    swap = torch.randn(8, 2, generator=generator), torch.randn(2, 4, generator=generator)
    tensors = {}
    for stem, (up, down) in (
        ("lora_unet_double_blocks_3_img_attn_qkv", qkv),
        ("lora_unet_single_blocks_7_linear1", one),
        ("lora_unet_final_layer_adaLN_modulation_1", swap),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q", swap),
    ):
        tensors[f"{stem}.lora_up.weight"], tensors[f"{stem}.lora_down.weight"] = up, down
    updates = read(files.save(tensors, tmp_path / "a.safetensors")).updates
    block, single = "transformer.transformer_blocks.3.attn", "transformer.single_transformer_blocks"
    expected = {
        f"{block}.to_q": (qkv[0] @ qkv[1])[:4],
        f"{block}.to_k": (qkv[0] @ qkv[1])[4:8],
        f"{block}.to_v": (qkv[0] @ qkv[1])[8:],
        f"{single}.7.attn.to_q": (one[0] @ one[1])[:4],
        f"{single}.7.attn.to_k": (one[0] @ one[1])[4:8],
        f"{single}.7.attn.to_v": (one[0] @ one[1])[8:12],
        f"{single}.7.proj_mlp": (one[0] @ one[1])[12:],
        "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q": swap[0] @ swap[1],
        "transformer.norm_out.linear": (swap[0] @ swap[1])[[4, 5, 6, 7, 0, 1, 2, 3]],
    }
    assert set(updates) == set(expected)
    for name, delta in expected.items():
        torch.testing.assert_close(updates[name].delta(), delta)


def test_another_base_is_refused(files: ModuleType, pairs: Any, tmp_path: Path) -> None:
    path = files.save(files.kohya(pairs, ALPHA), tmp_path / "a.safetensors")
    other = {f"{name}.weight": torch.zeros(shape) for name, shape in files.SHAPES.items()}
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    with pytest.raises(BadFile, match="another base"):
        read(path, Base.of({**other, key: torch.zeros(8, 16)}))
    with pytest.raises(BadFile, match="0 of its"):
        read(path, Base.of({"unet.x.weight": torch.zeros(1), "text_encoder.x": torch.zeros(1)}))


def test_nothing_that_is_known_is_refused(files: ModuleType, tmp_path: Path) -> None:
    path = files.save({"a.b.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match="None of its 1 tensors"):
        read(path)
    path = files.save(
        {
            "somewhere.lora_A.weight": torch.zeros(2, 2),
            "somewhere.lora_B.weight": torch.zeros(2, 2),
        },
        tmp_path / "b.safetensors",
    )
    with pytest.raises(BadFile, match="None of its 2 tensors"):
        read(path)


def test_unknown_modules_are_named(files: ModuleType, pairs: Any, tmp_path: Path) -> None:
    tensors = files.kohya(pairs, ALPHA) | {"mystery.tensor": torch.zeros(2)}
    assert read(files.save(tensors, tmp_path / "a.safetensors")).unmatched == ("mystery.tensor",)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_9_attn2_to_out_0",
            "unet.down_blocks.1.attentions.0.transformer_blocks.9.attn2.to_out.0",
        ),
        ("lora_unet_output_blocks_5_2_conv", "unet.up_blocks.1.upsamplers.0.conv"),
        ("lora_unet_input_blocks_3_0_op", "unet.down_blocks.0.downsamplers.0.conv"),
        ("lora_unet_label_emb_0_0", "unet.add_embedding.linear_1"),
        ("lora_unet_time_embed_2", "unet.time_embedding.linear_2"),
        (
            "lora_te2_text_model_encoder_layers_11_self_attn_out_proj",
            "text_encoder_2.text_model.encoder.layers.11.self_attn.out_proj",
        ),
        (
            "lora_te3_encoder_block_0_layer_1_DenseReluDense_wi_0",
            "text_encoder_3.encoder.block.0.layer.1.DenseReluDense.wi_0",
        ),
        (
            "lora_transformer_single_transformer_blocks_7_attn_to_q",
            "transformer.single_transformer_blocks.7.attn.to_q",
        ),
        (
            "lora_transformer_time_text_embed_guidance_embedder_linear_1",
            "transformer.time_text_embed.guidance_embedder.linear_1",
        ),
        (
            "base_model.model.down_blocks.0.resnets.1.conv_shortcut",
            "unet.down_blocks.0.resnets.1.conv_shortcut",
        ),
        (
            "diffusion_model.joint_blocks.2.x_block.mlp.fc1",
            "transformer.transformer_blocks.2.ff.net.0.proj",
        ),
        (
            "conditioner.embedders.1.model.transformer.resblocks.3.mlp.c_fc",
            "text_encoder_2.text_model.encoder.layers.3.mlp.fc1",
        ),
    ],
)
def test_names(raw: str, name: str) -> None:
    found = resolve(raw)
    assert found is not None
    assert [target.name for target in found.targets] == [name]


def test_unknown_names_resolve_to_nothing() -> None:
    assert resolve("lora_unet_flying_blocks_0") is None
    assert from_original("input_blocks.3.0.unknown", 2) == []
