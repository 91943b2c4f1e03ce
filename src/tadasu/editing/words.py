"""An encoder without a network, for examples and tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tadasu.editing.encoder import POOLED, Encoded
from tadasu.editing.tokens import Span

LENGTH = 10


class WordEncoder:
    """CLIP-like: start token, words, end token, padding; each row remembers the words before it.

    Args:
        width: length of a context row.
        pooled: whether there is a second site, half as wide, made from the end token.

    >>> WordEncoder(width=4).encode(["a cat"])["context"].contexts.shape
    torch.Size([1, 10, 4])
    """

    def __init__(self, width: int = 16, *, pooled: bool = False) -> None:
        self.width, self.pooled = width, pooled

    @property
    def fingerprint(self) -> str:
        """Depends on the width only."""
        return f"sha256:word-encoder-{self.width}"

    def row(self, word: str) -> Tensor:
        """A word's own row, the same on every machine."""
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:6], "big")
        source = torch.Generator().manual_seed(seed)
        return torch.randn(self.width, generator=source, dtype=torch.float64)

    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Contexts per site."""
        contexts, spans = zip(*map(self._one, texts), strict=True)
        stacked = torch.stack(contexts).float()
        sites = {"context": Encoded(contexts=stacked, spans=spans)}
        if self.pooled:
            last = [span[0].end or 0 for span in spans]
            rows = stacked[torch.arange(len(texts)), last][:, None, : self.width // 2]
            sites["pooled"] = Encoded(contexts=rows, spans=((POOLED,),) * len(texts))
        return sites

    def _one(self, text: str) -> tuple[Tensor, tuple[Span, ...]]:
        words = text.split()[: LENGTH - 2]
        tokens = ["<s>", *words, "</s>", *["<pad>"] * (LENGTH - len(words) - 2)]
        memory = torch.zeros(self.width, dtype=torch.float64)
        rows = []
        for token in tokens:
            rows.append(self.row(token) + 0.5 * memory)
            memory = 0.7 * memory + self.row(token) * (token not in ("</s>", "<pad>"))
        end = len(words) + 1
        return torch.stack(rows), (Span(first=1, last=end - 1, end=end, length=LENGTH),)
