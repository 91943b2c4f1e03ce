"""Numbers recorded from the authors' code, and the tensors they were recorded on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tadasu.editing.encoder import Encoded
from tadasu.editing.words import LENGTH, WordEncoder

FOLDER = Path(__file__).parent / "recorded"


def recorded(name: str) -> dict[str, Any]:
    """What the authors' code gave; ``from`` says which commit and command."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def layer(rows: int, width: int) -> Tensor:
    """The weights of the layer that has so many rows."""
    source = torch.Generator().manual_seed(rows)
    return torch.randn(rows, width, generator=source, dtype=torch.float64)


def gram(layers: list[Tensor]) -> Tensor:
    """Sum of ``WᵀW``."""
    return torch.stack([weight.T @ weight for weight in layers]).sum(0)


def apart(edited: Tensor, expected: list[list[float]], before: Tensor) -> float:
    """Relative difference of two changes of a layer's weights."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    change = wanted - before
    return float((edited - wanted).norm() / change.norm())


class PlacedEncoder(WordEncoder):
    """Also says where each token is, so that the empty prompt's rows differ as in CLIP."""

    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Contexts with a row for each place added."""
        found = super().encode(texts)["context"]
        places = torch.stack([self.row(f"place {place}") for place in range(LENGTH)])
        return {"context": Encoded(contexts=found.contexts + places.float(), spans=found.spans)}
