"""Where models are read from, and what is said when they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadasu.backends.transformers.load import check_hub
from tadasu.errors import BadFile, MissingPart


def test_a_hub_that_is_out_of_reach_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def unreachable(ref: str, **_: object) -> None:
        asked.append(ref)
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.model_info", unreachable)
    with pytest.raises(MissingPart, match=r"as a CLIP model: .* be reached: 'no route'"):
        check_hub("org/model", "a CLIP model")
    assert asked == ["org/model"]


def test_what_is_no_hub_id_asks_nobody() -> None:
    with pytest.raises(BadFile, match="no such folder, and it is no hub id"):
        check_hub("a b", "a CLIP model")


def test_folders_and_cached_models_ask_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.model_info", asked)
    check_hub(str(tmp_path), "a CLIP model")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "config.json")
    check_hub("org/model", "a CLIP model")
