"""peft and diffusers write; what is read equals what they merge into the weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from peft import (
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    get_peft_model,
    get_peft_model_state_dict,
)
from torch import Tensor, nn

from tadasu.auditing.base import Base
from tadasu.auditing.read import read

LINEAR = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.2"]
CONVOLUTIONS = [*LINEAR, "conv1", "proj_in"]
CONFIGS: dict[str, Any] = {
    "lora": LoraConfig(r=3, lora_alpha=5, target_modules=CONVOLUTIONS),
    "lora-patterns": LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=CONVOLUTIONS,
        rank_pattern={"attn2.to_k": 2},
        alpha_pattern={"attn2.to_k": 7},
        use_rslora=True,
    ),
    "dora": LoraConfig(r=3, lora_alpha=5, target_modules=CONVOLUTIONS, use_dora=True),
    "loha": LoHaConfig(r=2, alpha=3, target_modules=CONVOLUTIONS),
    "loha-tucker": LoHaConfig(r=2, alpha=3, target_modules=CONVOLUTIONS, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=2, alpha=3, target_modules=CONVOLUTIONS),
    "lokr-both": LoKrConfig(
        r=2,
        alpha=3,
        target_modules=CONVOLUTIONS,
        use_effective_conv2d=True,
        decompose_both=True,
        decompose_factor=4,
    ),
    "ia3": IA3Config(target_modules=CONVOLUTIONS, feedforward_modules=["ff.net.2", "conv1"]),
    "oft": OFTConfig(r=0, oft_block_size=4, target_modules=LINEAR, use_cayley_neumann=True),
    "oft-three": OFTConfig(
        r=0, oft_block_size=4, target_modules=LINEAR, num_cayley_neumann_terms=3
    ),
    "oft-exact": OFTConfig(r=0, oft_block_size=4, target_modules=LINEAR, use_cayley_neumann=False),
}


def unet(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
        sample_size=8,
    )


def shake(model: nn.Module) -> None:
    """Adapters start at no change; give every adapter parameter a value."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            keep = 1.0 if "magnitude" in name or "ia3" in name else 0.0
            parameter.data.copy_(parameter.data * keep + noise)


def weights(model: Any) -> dict[str, Tensor]:
    return {f"unet.{name}": value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_peft_saves_reads_to_what_peft_merges(kind: str, tmp_path: Path) -> None:
    model = unet()
    before = weights(model)
    adapted = get_peft_model(model, CONFIGS[kind])
    shake(adapted)
    adapted.save_pretrained(str(tmp_path))
    after = weights(adapted.merge_and_unload())
    base = Base.of(before)
    adapter = read(tmp_path, base)
    assert adapter.unmatched == ()
    assert adapter.format == kind.partition("-")[0]
    changed = {
        name.removesuffix(".weight")
        for name in before
        if not torch.equal(before[name], after[name])
    }
    assert set(adapter.updates) == changed
    assert len(changed) > 20
    for name in changed:
        update = adapter.updates[name]
        key = name if name.endswith(".bias") else f"{name}.weight"
        expected = after[key] - before[key]
        weight = base.weight(name) if update.needs_weight else None
        torch.testing.assert_close(update.delta(weight), expected, rtol=1e-3, atol=2e-6)
        assert update.norm(weight) == pytest.approx(float(expected.norm()), rel=1e-3)
        factors = update.factors()
        if factors is not None:
            assert factors[1].shape[0] == update.rank
            product = (factors[0] @ factors[1]).reshape(update.shape)
            torch.testing.assert_close(product, expected, rtol=1e-3, atol=2e-6)
        assert not (kind.startswith("lora") and factors is None)


def test_diffusers_own_saver_with_and_without_its_metadata(tmp_path: Path) -> None:
    model = unet()
    before = weights(model)
    model.add_adapter(CONFIGS["lora"])
    shake(model)
    state = get_peft_model_state_dict(model)
    saved = {
        "plain": None,
        "told": {"r": 3, "lora_alpha": 5, "alpha_pattern": {}, "rank_pattern": {}},
    }
    for name, metadata in saved.items():
        StableDiffusionLoraLoaderMixin.save_lora_weights(
            str(tmp_path),
            unet_lora_layers=state,
            weight_name=f"{name}.safetensors",
            unet_lora_adapter_metadata=metadata,
        )
    module = model.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    expected = module.get_delta_weight("default")
    told = read(tmp_path / "told.safetensors", Base.of(before)).updates[key]
    torch.testing.assert_close(told.delta(), expected)
    plain = read(tmp_path / "plain.safetensors").updates[key]
    torch.testing.assert_close(plain.delta() * 5 / 3, expected)


def test_kohya_reads_as_diffusers_converts_it(files: ModuleType, tmp_path: Path) -> None:
    pairs = files.factors(2)
    path = files.save(files.kohya(pairs, 6.0), tmp_path / "a.safetensors")
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(
        str(tmp_path), weight_name="a.safetensors"
    )
    assert set(alphas.values()) == {6.0}
    ours = read(path).updates
    converted = read(files.save(state, tmp_path / "b.safetensors")).updates
    assert set(ours) == set(converted) == set(pairs)
    for name, update in ours.items():
        torch.testing.assert_close(update.delta(), converted[name].delta() * 3.0)


def test_flux_reads_as_diffusers_converts_it(files: ModuleType, tmp_path: Path) -> None:
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers

    generator = torch.Generator().manual_seed(1)
    rows = {
        "double_blocks_0_img_attn_qkv": 9216,
        "double_blocks_0_txt_attn_qkv": 9216,
        "double_blocks_1_img_attn_proj": 64,
        "double_blocks_1_txt_attn_proj": 64,
        "double_blocks_18_txt_mlp_0": 64,
        "double_blocks_18_img_mlp_2": 64,
        "double_blocks_18_img_mod_lin": 64,
        "single_blocks_37_linear1": 21504,
        "single_blocks_37_linear2": 64,
        "single_blocks_0_modulation_lin": 64,
    }
    tensors = {}
    for name, count in rows.items():
        tensors[f"lora_unet_{name}.lora_up.weight"] = torch.randn(count, 2, generator=generator)
        tensors[f"lora_unet_{name}.lora_down.weight"] = torch.randn(2, 4, generator=generator)
        tensors[f"lora_unet_{name}.alpha"] = torch.tensor(1.0)
    updates = read(files.save(tensors, tmp_path / "a.safetensors")).updates
    converted = _convert_kohya_flux_lora_to_diffusers(dict(tensors))
    expected = {
        key.removesuffix(".lora_A.weight"): converted[key.replace("lora_A", "lora_B")] @ down
        for key, down in converted.items()
        if key.endswith(".lora_A.weight")
    }
    assert set(updates) == set(expected)
    for name, delta in expected.items():
        torch.testing.assert_close(updates[name].delta(), delta)


def test_a_damaged_configuration_is_told(tmp_path: Path) -> None:
    adapted = get_peft_model(unet(), CONFIGS["lora"])
    adapted.save_pretrained(str(tmp_path))
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": "NaN"}))
    assert read(tmp_path).updates  # an alpha that is no number counts as none
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read(tmp_path)
