from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from tadasu.editing.encoder import Encoded, Remembered
from tadasu.editing.words import WordEncoder


def test_every_text_is_read_once_and_comes_back_in_the_order_asked() -> None:
    read: list[str] = []

    class Counting(WordEncoder):
        def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
            read.extend(texts)
            return super().encode(texts)

    encoder, plain = Remembered(Counting(8, pooled=True)), WordEncoder(8, pooled=True)
    encoder.encode(["a cat", "", "a cat"])
    found = encoder.encode(["a dog", "", "a cat"])
    assert read == ["a cat", "", "a dog"]
    for site, expected in plain.encode(["a dog", "", "a cat"]).items():
        assert torch.equal(found[site].contexts, expected.contexts)
        assert found[site].spans == expected.spans
