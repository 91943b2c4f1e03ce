"""What updates make of a model's weights: one or several files at their strengths, laid over.

``W + Σ strength · ΔW`` per weight, in float32, as new tensors. Nothing is written into the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tadasu.auditing.adapter import Update
from tadasu.errors import BadInput

Updates = Mapping[str, Update]
#: A weight of the base by its full name, for example ``unet.mid_block….to_q.weight``.
Parameter = Callable[[str], Tensor | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Merged:
    """New weights, and what could not be laid over.

    Attributes:
        weights: new values by full name, float32.
        unmatched: names of updates that the base has no weight of that shape for.
    """

    weights: Mapping[str, Tensor]
    unmatched: tuple[str, ...]

    def without(self, part: Callable[[str], bool]) -> Mapping[str, Tensor]:
        """The weights whose names do not belong to a part."""
        return {name: value for name, value in self.weights.items() if not part(name)}


def is_cross_attention(name: str) -> bool:
    """Whether a weight belongs to attention that reads the text (``attn2`` in U-Nets).

    >>> is_cross_attention("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")
    True
    """
    return "attn2" in name.split(".")


def parameter_name(update: str, parameter: Parameter) -> str:
    """The full name of the weight that an update changes; modules stand for their ``weight``."""
    return update if parameter(update) is not None else f"{update}.weight"


def merge(files: Sequence[tuple[Updates, float]], parameter: Parameter) -> Merged:
    """Lay files over a base.

    Args:
        files: updates by module, each with its strength; 1 is the strength it was made for.
        parameter: looks up the base's weights.

    Raises:
        BadInput: an update cannot be computed for this base.
    """
    weights: dict[str, Tensor] = {}
    unmatched: list[str] = []
    for updates, strength in files:
        for module, update in updates.items():
            name = parameter_name(module, parameter)
            base = parameter(name)
            if base is None or tuple(base.shape) != tuple(update.shape):
                unmatched.append(module)
                continue
            delta = update.delta(base if update.needs_weight else None).to(base.device)
            before = weights[name] if name in weights else base.detach().float()
            weights[name] = before + strength * delta
    return Merged(weights=weights, unmatched=tuple(dict.fromkeys(unmatched)))


def require_any(merged: Merged, what: str) -> None:
    """Refuse a file of which nothing fits the base.

    Raises:
        BadInput: no weight was matched.
    """
    if not merged.weights:
        count = len(merged.unmatched)
        raise BadInput(
            f"None of the {count} updates of {what} fits this base: it was made for another model."
        )
