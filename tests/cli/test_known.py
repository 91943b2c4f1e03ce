"""``tadasu known`` and what an audit makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tadasu.auditing.base import Base
from tadasu.auditing.lineage import sketch
from tadasu.auditing.lineage_index import Index
from tadasu.auditing.read import read
from tadasu.cli.app import build
from tadasu.errors import BadFile, BadInput
from tadasu.world import folder

STEM = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(path: Path, seed: int, scale: float = 1.0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    save_file(
        {
            f"{STEM}.lora_up.weight": torch.randn(256, 2, generator=generator) * scale,
            f"{STEM}.lora_down.weight": torch.randn(2, 256, generator=generator),
        },
        str(path),
    )
    return path


def test_remember_list_and_recognise(tmp_path: Path) -> None:
    index, bad = tmp_path / "known.safetensors", lora(tmp_path / "bad.safetensors", 1)
    (tmp_path / "broken.safetensors").write_bytes(b"no model at all, only text")
    run = CliRunner().invoke
    arguments = ["known", "add", str(index), str(bad), str(tmp_path / "broken.safetensors")]
    told = run(build(), [*arguments, "--note", "case 7", "--json"])
    assert told.exit_code == 1  # one of the two could not be read
    files = json.loads(told.stdout)["files"]
    assert files[0]["problem"] is None
    assert "header" in files[1]["problem"]
    listed = run(build(), ["known", "list", str(index), "--json"])
    assert listed.exit_code == 0
    (entry,) = json.loads(listed.stdout)["files"]
    assert (entry["name"], entry["note"]) == ("bad.safetensors", "case 7")
    base = Base.from_folder(folder("pipeline"))
    copy = read(lora(tmp_path / "copy.safetensors", 1, 0.3), base)
    assert Index.load(index).match(sketch(copy, base)).kind == "copy"
    stranger = read(lora(tmp_path / "other.safetensors", 2), base)
    assert Index.load(index).match(sketch(stranger, base)).kind == "none"


def test_nothing_added_is_an_error(tmp_path: Path) -> None:
    index, bad = tmp_path / "known.safetensors", lora(tmp_path / "bad.safetensors", 1)
    run = CliRunner().invoke
    assert run(build(), ["known", "add", str(index), str(bad)]).exit_code == 0
    before = index.read_bytes()
    again = run(build(), ["known", "add", str(index), str(bad)])
    assert isinstance(again.exception, BadInput)
    assert index.read_bytes() == before
    missing = run(build(), ["known", "list", str(tmp_path / "none.safetensors")])
    assert isinstance(missing.exception, BadFile)
    with pytest.raises(BadFile, match="no index of known files at"):
        Index.load(tmp_path / "none.safetensors")
