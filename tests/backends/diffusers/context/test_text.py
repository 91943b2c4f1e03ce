"""The pipeline as an encoder."""

from __future__ import annotations

import pytest

import tadasu as td
from tadasu.backends.diffusers.context.text import PipelineEncoder


def test_long_texts_are_cut_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    import diffusers.utils.logging as log

    pipe = td.world.pipeline("cpu")
    log.set_verbosity_warning()  # as a program that does not ask for less
    level = log.get_verbosity()
    contexts = PipelineEncoder(pipe).encode(["a cat " * 90, "a cat"])["context"].contexts
    assert contexts.shape[1] == 77
    assert "truncated" not in capfd.readouterr().err
    assert log.get_verbosity() == level
