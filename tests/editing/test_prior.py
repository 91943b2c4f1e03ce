from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tadasu.editing.prior import Moment, Prior
from tadasu.editing.words import WordEncoder
from tadasu.errors import BadFile, BadInput

CAPTIONS = ["a cat", "a dog on a mat", "", "blue sky", "red road"]


def test_moment_is_the_mean_of_outer_products() -> None:
    prior = Prior.measure(WordEncoder(8), CAPTIONS, batch=2)
    texts = [text for text in CAPTIONS if text]
    rows = WordEncoder(8).encode(texts)["context"].contexts.double().reshape(-1, 8)
    expected = torch.stack([torch.outer(row, row) for row in rows]).mean(0)
    torch.testing.assert_close(prior.moments["context"].mean, expected)
    assert prior.captions == 4


def test_batches_and_merging_change_nothing() -> None:
    one = Prior.measure(WordEncoder(8, pooled=True), iter(CAPTIONS), batch=1)
    all_at_once = Prior.measure(WordEncoder(8, pooled=True), CAPTIONS, batch=100)
    for site in ("context", "pooled"):
        torch.testing.assert_close(one.moments[site].total, all_at_once.moments[site].total)
    rows = torch.randn(6, 4, dtype=torch.float64)
    parts = Moment.empty(4).add(rows[:2]).merge(Moment.empty(4).add(rows[2:]))
    torch.testing.assert_close(parts.mean, Moment.empty(4).add(rows).mean)


def test_file_round_trip(tmp_path: Path) -> None:
    prior = Prior.measure(WordEncoder(8), CAPTIONS)
    prior.save(tmp_path / "p.safetensors")
    again = Prior.load(tmp_path / "p.safetensors")
    assert (again.fingerprint, again.captions) == (prior.fingerprint, prior.captions)
    torch.testing.assert_close(
        again.moments["context"].mean, prior.moments["context"].mean, rtol=1e-6, atol=1e-6
    )


def test_a_prior_of_another_encoder_is_refused() -> None:
    with pytest.raises(BadInput, match=r"word-encoder-8.*word-encoder-9"):
        Prior.measure(WordEncoder(8), CAPTIONS).check(WordEncoder(9).fingerprint)


def test_no_captions_is_no_prior() -> None:
    with pytest.raises(BadInput, match="captions"):
        Prior.measure(WordEncoder(8), ["", " "])
    with pytest.raises(BadInput, match="no captions"):
        _ = Moment.empty(3).mean


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(BadFile, match="Cannot read"):
        Prior.load(path)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(BadFile, match="Cannot read"):
        Prior.load(path)
    save_file({"context": torch.eye(2)}, path)
    with pytest.raises(BadFile, match="no prior"):
        Prior.load(path)
    about = {"format": "tadasu-prior/1", "encoder": "x", "captions": "1", "rows.context": "1"}
    save_file({"context": torch.full((2, 2), torch.nan)}, path, metadata=about)
    with pytest.raises(BadFile, match="finite"):
        Prior.load(path)
    save_file({"context": torch.zeros(2, 3)}, path, metadata=about)
    with pytest.raises(BadFile, match="moment matrix"):
        Prior.load(path)
