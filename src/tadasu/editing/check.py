"""What an edit does, measured on contexts alone: no image is drawn.

* **residual**: how much of the distance to its target each concept keeps (0 reached, 1 unmoved), in
  sentences that the edit was not solved for (:data:`WORDINGS`);
* **drift**: how far held-out contexts move, relative to their length;
* **condition**: ratio of the largest to the smallest stretch of the edited directions;
* **collateral**: the texts that move most, worst first, measured as the projections feel it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm

from tadasu.editing.context_map import ContextMap
from tadasu.editing.edit import Map
from tadasu.editing.gated_map import GatedMap
from tadasu.editing.layer_map import LayerMap
from tadasu.editing.problem import Problem
from tadasu.errors import BadInput

#: Sentences in which residuals are measured; those that an edit was solved for are left out.
WORDINGS = ("the {}", "a photo of a {}", "one {}", "an image of the {}")


def unsolved(templates: Sequence[str], count: int = 2) -> tuple[str, ...]:
    """Sentences to measure in that an edit was not solved for.

    >>> unsolved(["{}", "the {}"])
    ('a photo of a {}', 'one {}')
    """
    return tuple(wording for wording in WORDINGS if wording not in templates)[:count]


@dataclass(frozen=True, kw_only=True)
class Check:
    """Measurements at one site.

    Args:
        residual: per concept.
        drift: mean relative movement of held-out contexts; None when none were given.
        worst_drift: the largest of them.
        condition: of the map; None for an edit with gates, which has no single map.
        collateral: (text, relative movement), worst first.
        overlapping: concepts whose presence gate cannot tell them from a text to be kept.
    """

    residual: Mapping[str, float]
    drift: float | None
    worst_drift: float | None
    condition: float | None
    collateral: tuple[tuple[str, float], ...]
    overlapping: tuple[str, ...] = ()

    @property
    def worst_residual(self) -> float:
        """Of the concept that is furthest from its target."""
        return max(self.residual.values())

    def as_json(self) -> dict[str, Any]:
        """For headers and reports."""
        return asdict(self) | {"residual": dict(self.residual)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Check:
        """What :meth:`as_json` wrote."""
        ranking = tuple((str(text), float(moved)) for text, moved in found["collateral"])
        overlapping = tuple(found["overlapping"])
        return cls(**{**found, "collateral": ranking, "overlapping": overlapping})


def check(
    edit: Map,
    problem: Problem,
    held_out: Mapping[str, Float[Tensor, "tokens width"]],
    *,
    shown: int = 10,
) -> Check:
    """Measure one map.

    Args:
        edit: plain or gated.
        problem: what it was asked to do.
        held_out: contexts of texts that should not change.
        shown: how many texts the collateral ranking keeps.
    """
    # A layer map moves rows that the projections do not read yet.
    moved = movement(edit, held_out, None if isinstance(edit, LayerMap) else problem.gram)
    ranking = sorted(moved.items(), key=lambda item: -item[1])
    sizes = list(moved.values())
    return Check(
        residual=residuals(edit, problem),
        drift=sum(sizes) / len(sizes) if sizes else None,
        worst_drift=max(sizes) if sizes else None,
        condition=condition(edit) if isinstance(edit, ContextMap) else None,
        collateral=tuple(ranking[:shown]),
        overlapping=() if isinstance(edit, ContextMap) else edit.overlapping,
    )


def residuals(edit: Map, problem: Problem) -> dict[str, float]:
    """Per concept, the share of its distance to the target that is left."""
    result = {}
    for number, concept in enumerate(problem.concepts):
        own = problem.owners == number
        plain = edit.map_for(_only(concept, edit)) if isinstance(edit, GatedMap) else edit
        here, there = problem.sources[own], problem.targets[own]
        after = here + plain.delta(here)
        if isinstance(edit, LayerMap):  # the encoder normalises its rows before anything reads them
            here, there, after = map(normalised, (here, there, after))
        result[concept] = float((there - after).norm() / (there - here).norm().clamp_min(1e-300))
    return result


def movement(
    edit: Map,
    contexts: Mapping[str, Float[Tensor, "tokens width"]],
    gram: Float[Tensor, "width width"] | None = None,
) -> dict[str, float]:
    """Per text, ``‖W Δ x‖ / ‖W x‖`` over all layers; plain lengths when no gram is given."""
    result = {}
    for text, rows in contexts.items():
        exact = rows.to(torch.float64)
        after = edit.apply(exact[None])[0]
        if isinstance(edit, LayerMap):
            exact, after = normalised(exact), normalised(after)
        moved = after - exact
        result[text] = _length(moved, gram) / max(_length(exact, gram), 1e-300)
    return result


def condition(edit: ContextMap) -> float:
    """Largest stretch against smallest, on the edited directions; infinite for a projection.

    >>> condition(ContextMap.identity(4))
    1.0
    """
    if edit.rank == 0:
        return 1.0
    basis = torch.linalg.qr(torch.cat([edit.A, edit.B], 1))[0]
    inside = basis.T @ basis + (basis.T @ edit.A) @ (edit.B.T @ basis)
    sizes = torch.linalg.svdvals(inside)
    return float(sizes[0] / sizes[-1]) if float(sizes[-1]) > 0 else float("inf")


def normalised(rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """Rows as the text encoder's last normalisation leaves them, before its scale and shift."""
    return layer_norm(rows, rows.shape[-1:])


def _only(concept: str, edit: GatedMap) -> Tensor:
    gates = torch.zeros(len(edit.concepts), dtype=torch.float64)
    gates[edit.concepts.index(concept)] = 1.0
    return gates


def _length(rows: Tensor, gram: Tensor | None) -> float:
    squares = (rows**2).sum() if gram is None else ((rows @ gram) * rows).sum()
    return float(squares.clamp_min(0).sqrt())


def require(checks: Mapping[str, Check], *, residual: float, drift: float) -> Sequence[str]:
    """Reasons for which an edit does not hold what was asked of it; empty when it does.

    Raises:
        BadInput: when a limit is not above 0.
    """
    if not (residual > 0 and drift > 0):
        raise BadInput("Limits for residual and drift are above 0.")
    found = []
    for site, result in checks.items():
        late = sorted(name for name, left in result.residual.items() if left > residual)
        if late:
            found.append(f"{site}: residual above {residual} for {', '.join(late)}")
        if result.drift is not None and result.drift > drift:
            found.append(f"{site}: mean drift {result.drift:.3f} above {drift}")
        if result.overlapping:
            found.append(f"{site}: gates cannot tell apart {', '.join(result.overlapping)}")
    return found
