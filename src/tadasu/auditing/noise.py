"""Is a change of weights noise? Training leaves directions that stand out; random numbers do not.

The largest singular value of an n × m matrix of independent numbers of mean square σ² is close to
σ (√n + √m) (Marchenko and Pastur, 1967). A change whose largest one is hardly above that has no
structure. A product of thin random factors has few directions and is not seen here; such a file
changes hardly any prediction, which is looked at by itself. Own proposal; measured in
docs/auditing/measured.md.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.auditing.merge import Merged, Parameter

#: How far above the edge of noise the largest singular value of a trained change lies, at least.
ABOVE = 1.5
#: Edge from which a matrix is large enough to tell.
SMALLEST = 16
STEPS = 12


def noise(merged: Merged, parameter: Parameter) -> float:
    """Share of a file's change, by its square, that looks like random numbers; 0 to 1.

    Args:
        merged: the file, laid over the base.
        parameter: looks up the base's weights.
    """
    total = random = 0.0
    for name, value in merged.weights.items():
        base = parameter(name)
        if base is None or base.ndim < 2:
            continue
        change = (value - base.detach().float().to(value.device)).flatten(1)
        size = float(change.square().sum())
        if not math.isfinite(size) or size == 0:
            continue
        total += size
        if min(change.shape) >= SMALLEST and standing_out(change) < ABOVE:
            random += size
    return random / total if total else 0.0


def standing_out(change: Float[Tensor, "outputs inputs"]) -> float:
    """The largest singular value in units of the largest that noise of this size would have.

    >>> standing_out(torch.randn(64, 96, generator=torch.Generator().manual_seed(0))) < 1.2
    True
    >>> standing_out(torch.ones(64, 96)) > 4
    True
    """
    outputs, inputs = change.shape
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(inputs, generator=generator).to(change.device)
    for _ in range(STEPS):
        vector = torch.mv(change.T, torch.mv(change, vector))
        vector = vector / vector.norm().clamp_min(1e-30)
    largest = float(torch.mv(change, vector).norm())
    spread = float(change.norm()) / math.sqrt(outputs * inputs)
    return largest / max(spread * (math.sqrt(outputs) + math.sqrt(inputs)), 1e-30)
