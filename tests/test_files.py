"""Files appear whole or not at all, and others may read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tadasu.errors import BadFile
from tadasu.files import open_to_others, save_tensors


@pytest.fixture
def _mask() -> object:
    old = os.umask(0o027)
    yield
    os.umask(old)


@pytest.mark.usefixtures("_mask")
def test_a_file_gets_the_permissions_of_a_new_one(tmp_path: Path) -> None:
    file = save_tensors(tmp_path / "new" / "a.safetensors", {"a": torch.ones(2).expand(3, 2)})
    assert file.stat().st_mode & 0o777 == 0o640
    secret = tmp_path / "new" / "b"
    secret.touch(mode=0o600)
    open_to_others(tmp_path)
    assert secret.stat().st_mode & 0o777 == 0o640


def test_nothing_is_left_behind_and_what_was_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"before")
    with pytest.raises(BadFile, match="Cannot write"):
        save_tensors(file, {"a": torch.ones(2).to_sparse()})
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]
    assert file.read_bytes() == b"before"
