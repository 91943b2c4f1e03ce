"""An edit: context maps with where they came from, as one object and as one small file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tadasu.editing.context_map import ContextMap
from tadasu.editing.gated_map import GatedMap
from tadasu.errors import BadInput, shown

Map = ContextMap | GatedMap


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """A stored correction.

    Args:
        name: by which it is folded in and taken out again.
        maps: one map per site of the model.
        concepts: identifiers of what it changes.
        recipe: how it was made, enough to make it again: solver, parameters, targets, preserve
            list, prior.
        fingerprint: of the text encoders it was solved on.
        evidence: what the self-check measured.
    """

    name: str
    maps: Mapping[str, Map]
    concepts: tuple[str, ...]
    recipe: Mapping[str, Any]
    fingerprint: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an edit of nothing."""
        if not self.maps:
            raise BadInput(f"Edit {shown(self.name)} has no maps.")

    @property
    def conditional(self) -> bool:
        """Whether it acts only at run time, on prompts that contain its concepts."""
        return any(isinstance(edit, GatedMap) for edit in self.maps.values())

    def plain_maps(self) -> dict[str, ContextMap]:
        """The maps as plain linear maps, for folding and export.

        Raises:
            BadInput: when the edit is conditional.
        """
        plain = {site: m for site, m in self.maps.items() if isinstance(m, ContextMap)}
        if len(plain) != len(self.maps):
            raise BadInput(
                f"Edit {shown(self.name)} acts only on prompts that contain its concepts, so it "
                "cannot be folded into weights or written as a LoRA. Attach it at run time, or "
                "solve it again with a folded solver."
            )
        return plain

    def check_encoder(self, fingerprint: str, *, force: bool = False) -> None:
        """Refuse another text encoder than the one the edit was solved on.

        Raises:
            BadInput: unless ``force`` is given.
        """
        if fingerprint != self.fingerprint and not force:
            raise BadInput(
                f"Edit {shown(self.name)} was made for text encoder {shown(self.fingerprint, 20)}, "
                f"this model has {shown(fingerprint, 20)}. On another encoder it moves the wrong "
                "words. Solve it again, or use --force if the encoders are known to agree."
            )


def interference(edits: Sequence[Edit]) -> dict[tuple[str, str], float]:
    """How much each pair of edits depends on the order in which they act.

    Per pair, the length of ``Δ₁Δ₂ - Δ₂Δ₁`` against ``‖Δ₁‖ ‖Δ₂‖``, the largest over the sites both
    edit: 0 when the edits do not feel each other, about 1 when one undoes or redirects the other.

    Raises:
        BadInput: when an edit is conditional; such edits act on different prompts.
    """
    plain = [edit.plain_maps() for edit in edits]
    result = {}
    for i, one in enumerate(plain):
        for j in range(i + 1, len(plain)):
            sites = one.keys() & plain[j].keys()
            found = [_commutator(one[site], plain[j][site]) for site in sorted(sites)]
            result[edits[i].name, edits[j].name] = max(found, default=0.0)
    return result


def check_stack(edits: Sequence[Edit], limit: float = 0.5) -> None:
    """Refuse a stack of edits that would redirect each other.

    Args:
        edits: in the order in which they act.
        limit: largest interference that is let through.

    Raises:
        BadInput: naming the pair, before anything is written.
    """
    for (first, second), value in interference(edits).items():
        if value > limit:
            raise BadInput(
                f"Edits {shown(first)} and {shown(second)} interfere ({value:.2f}, limit "
                f"{limit:.2f}): together they do not do what each does alone. "
                "Solve their targets together as one edit."
            )


def _commutator(one: ContextMap, other: ContextMap) -> float:
    size, other_size = _size(one), _size(other)
    if size == 0 or other_size == 0:
        return 0.0
    both, back = one.then(other), other.then(one)
    difference = ContextMap(A=torch.cat([both.A, -back.A], 1), B=torch.cat([both.B, back.B], 1))
    return _size(difference) / (size * other_size)


def _size(edit: ContextMap) -> float:
    """Frobenius norm of ``A Bᵀ`` without forming it."""
    squares = ((edit.A.T @ edit.A) * (edit.B.T @ edit.B)).sum()
    return float(squares.clamp_min(0).sqrt())
