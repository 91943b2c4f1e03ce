"""Draws of tokens that depend on their own seed alone, whatever other threads draw.

``generate`` draws from torch's global generator, which every thread of a program shares. Here the
draw is made before: by the Gumbel trick, the largest of ``logit - log(E)`` with E exponentially
distributed is a draw from the softmax (Gumbel, 1954; Maddison, Tarlow, Minka, arXiv 1411.0030),
and E comes from a generator that belongs to one request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tadasu.alignment.engine import Sampling


class Drawing:
    """A logits processor after which the largest logit is the token that was drawn.

    Args:
        sampling: temperature above 0, the number of tokens that can be drawn, and the seed; None
            draws otherwise every time.
        device: of the logits.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        import torch

        self._temperature, self._top_k = sampling.temperature, sampling.top_k
        self._generator = torch.Generator(device=device)
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape (row, token), of which the largest is the draw."""
        import torch

        logits = scores.float() / self._temperature
        if 0 < self._top_k < logits.shape[-1]:
            least = logits.topk(self._top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        spread = torch.empty_like(logits).exponential_(generator=self._generator)
        return logits - spread.log()
