"""Sessions: what is no network is said to be none, and devices are not guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadasu.backends.onnx.session import Session, check_content
from tadasu.errors import BadFile, BadInput, MissingPart


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x07" * 50])
def test_a_damaged_network_is_one_clear_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BadFile, match=r"x\.onnx' is not a network that onnxruntime reads"):
        Session(tmp_path / "x.onnx", device="cpu")


def test_devices_are_named_and_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cpu or cuda here; given 'tpu'"):
        Session(tmp_path / "x.onnx", device="tpu")
    with pytest.raises(BadFile, match="no network file"):
        Session(tmp_path / "x.onnx", device=None)


def test_a_device_that_is_not_there_is_a_missing_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingPart, match="no cuda support"):
        Session(tmp_path / "x.onnx", device="cuda:0")


def test_content_is_checked(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_content(tmp_path / "x", digest)
    with pytest.raises(BadFile, match=digest):
        check_content(tmp_path / "x", "0" * 64)
