"""How strongly a file turns what cross-attention reads of a concept's words.

With contexts ``c`` of a concept's text (token × width) and the cross-attention keys and values
``W_l``, the gain is ``mean_l ‖ΔW_l c‖ / ‖W_l c‖``. A file that says something about the concept's
own name turns its direction more than that of ordinary words, so the gain is given as a z-score
against neutral texts. Costs a few small products and reads no other layer. Blind to files without
cross-attention and to trigger words that are not the concept's name: it triages, never convicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.auditing.merge import Parameter, Updates, is_cross_attention, parameter_name
from tadasu.errors import BadInput

#: Says nothing in particular; what a concept's words are held against.
NEUTRAL = (
    "",
    "a photo",
    "a picture of a thing",
    "something",
    "a house",
    "a tree",
    "a book",
    "the sea",
    "a red background",
    "people in a street",
    "an animal",
    "food on a table",
)


@dataclass(eq=False, kw_only=True)
class TextDirection:
    """Gains of files on the directions of some texts.

    Args:
        states: contexts of the concepts' texts, in their order.
        neutral: contexts of neutral texts.
        parameter: looks up the base's weights.
        norms: ‖W_l c‖ by weight, kept after the first file.

    Raises:
        BadInput: fewer than three neutral texts.
    """

    states: Float[Tensor, "concept token width"]
    neutral: Float[Tensor, "text token width"]
    parameter: Parameter
    norms: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """A spread needs a few neutral texts."""
        if len(self.neutral) < 3:
            raise BadInput("The text direction is held against at least three neutral texts.")

    def scores(self, updates: Updates) -> Float[Tensor, " concept"] | None:
        """Z-score of each concept's gain; None when the file has no cross-attention."""
        texts = torch.cat([self.states, self.neutral]).float()
        gains = [
            gain
            for module, update in updates.items()
            if module.endswith(("attn2.to_k", "attn2.to_v")) and is_cross_attention(module)
            for gain in (self._gain(module, update.factors() or update, texts),)
            if gain is not None
        ]
        if not gains:
            return None
        mean = torch.stack(gains).mean(0)
        ordinary = mean[len(self.states) :]
        spread = ordinary.std().clamp_min(1e-12)
        return (mean[: len(self.states)] - ordinary.mean()) / spread

    def _gain(self, module: str, update: object, texts: Tensor) -> Tensor | None:
        name = parameter_name(module, self.parameter)
        weight = self.parameter(name)
        if weight is None or weight.ndim != 2 or weight.shape[1] != texts.shape[2]:
            return None
        if name not in self.norms:
            self.norms[name] = (texts @ weight.detach().float().cpu().T).flatten(1).norm(dim=1)
        if isinstance(update, tuple):
            up, down = update
            changed = (texts @ down.T) @ up.T
        else:
            base = weight if update.needs_weight else None  # type: ignore[attr-defined]
            changed = texts @ update.delta(base).T  # type: ignore[attr-defined]
        gain: Tensor = changed.flatten(1).norm(dim=1) / self.norms[name].clamp_min(1e-12)
        return gain


def named(scores: Float[Tensor, " concept"], concepts: Sequence[str]) -> Mapping[str, float]:
    """Scores by concept."""
    return {name: float(score) for name, score in zip(concepts, scores, strict=True)}
