"""Bases, families, whole checkpoints and embeddings."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

import tadasu
from tadasu.auditing.base import Base
from tadasu.auditing.families import compared, family
from tadasu.auditing.read import read
from tadasu.errors import BadFile, BadInput, UnknownName

WORLD = Path(tadasu.__file__).parent / "world" / "pipeline"
KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def test_the_bundled_world_is_a_base() -> None:
    base = Base.from_folder(WORLD)
    assert {"unet", "text_encoder", "vae"} <= base.parts
    assert base.layers_per_block == 1
    assert base.weight(KEY).shape == base.shapes[KEY] == (128, 256)
    assert base.weight(KEY).dtype == torch.float32
    assert "text_encoder.text_model.encoder.layers.0.self_attn.q_proj" in base.shapes
    assert family(base.shapes) == "unknown"  # smaller than any family
    with pytest.raises(UnknownName):
        base.weight("unet.nowhere")


def test_a_base_from_memory_uses_the_names_of_files() -> None:
    name = "text_encoder.encoder.layers.0.self_attn.q_proj"
    base = Base.of({f"{name}.weight": torch.ones(2, 2), f"{name}.bias": torch.ones(2)})
    stem = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    assert set(base.shapes) == {stem, f"{stem}.bias"}
    with pytest.raises(BadInput):
        Base.of({})


def test_a_folder_without_weights_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no pipeline"):
        Base.from_folder(tmp_path)


CROSS = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
BLOCK = "transformer.transformer_blocks.0.attn"
SINGLE = "transformer.single_transformer_blocks.0"


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({CROSS: (640, 768)}, "sd1"),
        ({CROSS: (640, 1024)}, "sd2"),
        ({CROSS: (640, 2048)}, "sdxl"),
        ({CROSS: (768, 1280)}, "sdxl-refiner"),
        ({CROSS: (640, 1280)}, "unknown"),
        ({CROSS: (256, 768)}, "unknown"),
        ({CROSS: (640, 768), KEY: (320, 2048)}, "unknown"),
        ({CROSS.replace("attn2", "attn1"): (640, 640)}, "unknown"),
        ({f"{BLOCK}.to_q": (3072, 3072)}, "flux"),
        ({f"{BLOCK}.add_k_proj": (1536, 1536)}, "sd3"),
        ({f"{BLOCK}.to_q": (2432, 2432)}, "sd3"),
        ({f"{BLOCK}.to_q": (1152, 1152)}, "unknown"),
        ({f"{SINGLE}.proj_mlp": (12288, 3072)}, "flux"),
        ({f"{SINGLE}.attn.to_qkv_mlp_proj": (27648, 6144)}, "flux2"),
        ({f"{SINGLE}.attn.to_q": (64, 64)}, "unknown"),
        ({"text_encoder.text_model.encoder.layers.0.mlp.fc1": (3072, 768)}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_families(shapes: dict[str, tuple[int, ...]], expected: str) -> None:
    assert family(shapes) == expected


def test_what_a_file_claims_is_compared(files: ModuleType, tmp_path: Path) -> None:
    stem = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{stem}.lora_up.weight": torch.ones(640, 1),
        f"{stem}.lora_down.weight": torch.ones(1, 2048),
    }
    for claim, conflict in (("sd_1.5", True), ("sdxl_base_v1-0", False), ("", False)):
        metadata = {"ss_base_model_version": claim}
        adapter = read(files.save(tensors, tmp_path / "a.safetensors", metadata))
        assert compared(adapter).detected == "sdxl"
        assert compared(adapter).conflict is conflict


def test_a_whole_checkpoint_is_its_difference(files: ModuleType, tmp_path: Path) -> None:
    base = files.base()
    tensors = {f"{name}.weight": base.weight(name) for name in base.shapes}
    tensors[f"{KEY}.weight"] = tensors[f"{KEY}.weight"] + 0.5
    adapter = read(files.save(tensors, tmp_path / "a.safetensors"), base)
    assert adapter.format == "checkpoint"
    assert set(adapter.updates) == set(base.shapes)
    for name, update in adapter.updates.items():
        delta = update.delta(base.weight(name))
        assert float(delta.abs().max()) == pytest.approx(0.5 if name == KEY else 0.0)
    with pytest.raises(BadInput, match="depends on the base weight"):
        adapter.updates[KEY].delta()


def test_an_original_checkpoint_has_fused_text_weights(files: ModuleType, tmp_path: Path) -> None:
    stem = "text_encoder.text_model.encoder.layers.0.self_attn"
    rows = torch.arange(12.0).reshape(6, 2)
    tensors = {
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": rows,
        "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias": torch.arange(6.0),
        "model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, 4, 3, 3),
        "model.diffusion_model.out.2.bias": torch.ones(4),
        "first_stage_model.decoder.conv_in.weight": torch.ones(2, 2),
    }
    for number, save in enumerate(
        (files.save, lambda t, path: torch.save({"state_dict": t}, path))
    ):
        path = tmp_path / f"{number}.ckpt"
        save(tensors, path)
        updates = read(path).updates
        assert set(updates) == {
            *(f"{stem}.{name}_proj{end}" for name in "qkv" for end in ("", ".bias")),
            "unet.conv_in",
            "unet.conv_out.bias",
        }
        assert updates[f"{stem}.k_proj"].delta(torch.zeros(2, 2)).tolist() == rows[2:4].tolist()
        assert updates[f"{stem}.v_proj.bias"].delta(torch.zeros(2)).tolist() == [4.0, 5.0]


def test_a_checkpoint_with_nan_is_told_when_it_is_read(files: ModuleType, tmp_path: Path) -> None:
    weight = torch.full((8, 4, 3, 3), torch.nan)
    path = files.save({"unet.conv_in.weight": weight}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match="not finite"):
        read(path).updates["unet.conv_in"].delta(torch.zeros(8, 4, 3, 3))


def picture(text: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    return b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", text) + chunk(b"IEND", b"")


def test_embeddings_of_every_writer(files: ModuleType, tmp_path: Path) -> None:
    vectors = torch.randn(3, 768)
    save, path = files.save, tmp_path / "a.safetensors"
    for tensors in ({"emb_params": vectors}, {"<my-cat>": vectors}, {"<my-cat>": vectors[0]}):
        adapter = read(save(tensors, path))
        assert (adapter.format, adapter.family) == ("embedding", "sd1")
        assert adapter.embeddings["text_encoder"].shape[1] == 768
        assert adapter.parts == ("text_encoder",)
    adapter = read(save({"clip_l": vectors, "clip_g": torch.randn(3, 1280)}, path))
    assert adapter.family == "sdxl"
    assert adapter.parts == ("text_encoder", "text_encoder_2")
    torch.save({"string_to_param": {"*": vectors}, "name": "cat"}, tmp_path / "a.pt")
    adapter = read(tmp_path / "a.pt")
    torch.testing.assert_close(adapter.embeddings["text_encoder"], vectors)
    assert adapter.metadata.title == "cat"
    document = {"name": "cat", "string_to_param": {"*": {"TORCHTENSOR": vectors.tolist()}}}
    text = b"sd-ti-embedding\0" + base64.b64encode(json.dumps(document).encode())
    (tmp_path / "a.png").write_bytes(picture(text))
    torch.testing.assert_close(read(tmp_path / "a.png").embeddings["text_encoder"], vectors)
    (tmp_path / "a.png").write_bytes(picture(b"sd-ti-embedding\0!!!"))
    with pytest.raises(BadFile, match="damaged"):
        read(tmp_path / "a.png")
