"""UCE: Unified Concept Editing, and our default form of it.

Gandikota, Orgad, Belinkov, Materzyńska, Bau: Unified Concept Editing in Diffusion Models, WACV
2024, arXiv 2308.14761, eq. 7 with the ridge of the published code:

    W = (λ W₀ + sₑ Σ v* cᵀ + sₚ Σ W₀ c cᵀ) (λ I + sₑ Σ c cᵀ + sₚ Σ c cᵀ)⁻¹

Every ``v*`` is ``W₀`` times a context, so ``W = W₀ M`` with one ``M`` for all layers. Two different
algorithms carry the name; both are presets and are proven equal to a plain per-layer loop:

* :meth:`UnifiedConceptEditing.v1` is the 2023 code behind the paper's and most third-party tables;
* :meth:`UnifiedConceptEditing.v2` is the 2025 code, :meth:`UnifiedConceptEditing.v2_object` and
  :meth:`UnifiedConceptEditing.v2_art` with its ``expand_prompts``;
* :meth:`UnifiedConceptEditing.debias_v1` is one round of the 2023 debias code.

Departures of the default from the paper: the cost of a change is the second moment of ordinary
prompts instead of ``λ I``; the start token and the empty prompt are hard constraints; each
concept's weight is raised or lowered until its own residual is the asked one, so an easy concept
does not take room that a hard one needs; names are read in sentences as well as bare.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.editing.context_map import ContextMap
from tadasu.editing.metric import IDENTITY, Metric, cholesky, ridge_and_rows, ridge_solve
from tadasu.editing.problem import PLAIN, SENTENCES, Problem, Reading
from tadasu.errors import BadInput

#: Sentences of the published ``expand_prompts``, the plain name first, and of its debias code.
OBJECTS = (
    "{}",
    "image of {}",
    "photo of {}",
    "portrait of {}",
    "picture of {}",
    "painting of {}",
)
ARTISTS = (
    "{}",
    "painting by {}",
    "art by {}",
    "artwork by {}",
    "picture by {}",
    "style of {}",
)
PORTRAYED = ("image of {}", "photo of {}", "portrait of {}", "picture of {}", "{}")


@dataclass(frozen=True, kw_only=True)
class UnifiedConceptEditing:
    """One ridge regression that moves all concepts at once.

    Args:
        ridge: cost of changing any direction (λ). With a prior it is a fraction of the prior's
            mean cost; without one an absolute number, as published.
        erase_scale: weight of every changed row (sₑ); the starting point when balanced.
        preserve_scale: weight of every preserved row (sₚ); None is the 2023 rule
            ``max(0.1, 1 / number of preserved texts)``.
        prior_scale: weight of the prior's second moment; 0 leaves it out.
        tolerance: None keeps the weights; a number between 0 and 1 balances them until each
            concept keeps at most this fraction of its distance to the target.
        collateral: limit on how far preserved rows move, as a fraction of their own spread. While
            it is passed the tolerance is raised by a quarter, so that many concepts in a narrow
            model do not ruin the rest; the self-check says what residual that leaves.
        empty_prompt: ``"fixed"`` hard constraint, ``"preserved"`` soft, ``"free"`` neither.
        reading: token modes and templates.
    """

    ridge: float = 1e-3
    erase_scale: float = 1.0
    preserve_scale: float | None = 1.0
    prior_scale: float = 1.0
    tolerance: float | None = 0.1
    collateral: float = 0.45
    empty_prompt: str = "fixed"
    reading: Reading = field(default_factory=lambda: Reading(templates=SENTENCES))

    presets: ClassVar[tuple[str, ...]] = ("v1", "v2", "v2_object", "v2_art", "debias_v1")

    @classmethod
    def v1(cls) -> UnifiedConceptEditing:
        """The 2023 code: last word and everything after it, empty prompt preserved."""
        return cls(
            ridge=0.5,
            preserve_scale=None,
            prior_scale=0.0,
            tolerance=None,
            empty_prompt="preserved",
            reading=Reading(tokens="last+tail", preserve_tokens="all", empty="bos"),
        )

    @classmethod
    def v2(cls) -> UnifiedConceptEditing:
        """The 2025 code: the last word only, nothing preserved unless listed."""
        return cls(
            ridge=0.5,
            prior_scale=0.0,
            tolerance=None,
            empty_prompt="free",
            reading=Reading(tokens="last", preserve_tokens="last", empty="bos"),
        )

    @classmethod
    def v2_object(cls) -> UnifiedConceptEditing:
        """The 2025 code with ``expand_prompts`` for things: names also in five sentences."""
        return _expanded(cls.v2(), OBJECTS)

    @classmethod
    def v2_art(cls) -> UnifiedConceptEditing:
        """The 2025 code with ``expand_prompts`` for artists; its anchor there is "art"."""
        return _expanded(cls.v2(), ARTISTS)

    @classmethod
    def debias_v1(cls) -> UnifiedConceptEditing:
        """One round of the 2023 debias code; amounts are 0.1 times wanted minus seen share.

        There every layer measures lengths on its own outputs; one map for all layers measures them
        on all outputs together, which is the same for a model of one layer.
        """
        reading = Reading(
            tokens="last+tail",
            preserve_tokens="all",
            empty="bos",
            templates=PORTRAYED,
            preserve_templates=PLAIN,
            lengths="outputs",
        )
        return replace(cls.v2(), preserve_scale=0.1, reading=reading)

    @property
    def reads_projections(self) -> bool:
        """Whether posing the problem needs the projections' second moment."""
        return self.reading.lengths == "outputs"

    def __post_init__(self) -> None:
        """Refuse parameters that have no meaning."""
        if self.empty_prompt not in ("fixed", "preserved", "free"):
            raise BadInput(
                f"empty_prompt is 'fixed', 'preserved' or 'free'; given {self.empty_prompt!r}."
            )
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise BadInput(f"tolerance is between 0 and 1; given {self.tolerance}.")
        if not (self.erase_scale > 0 and self.collateral > 0 and self.prior_scale >= 0):
            raise BadInput(
                "erase_scale and collateral must be above 0 and prior_scale not below 0."
            )

    def solve(self, problem: Problem) -> ContextMap:
        """The context map of one site."""
        metric = self.metric(problem)
        if self.tolerance is None:
            weights = self.erase_scale * problem.weights
            return ridge_solve(metric, problem.sources, problem.moves, weights)
        sources, moves, owners = condensed(problem)
        tolerance = self.tolerance
        while True:
            weights = balanced(metric, sources, moves, owners, tolerance) * self.erase_scale
            edit = ridge_solve(metric, sources, moves, weights)
            if tolerance > 0.75 or moved_share(edit, problem.preserved) <= self.collateral:
                return edit
            tolerance *= 1.25

    def metric(self, problem: Problem) -> Metric:
        """What a change costs, and which rows may not move."""
        rows, texts = problem.preserved, problem.preserved_texts
        if self.empty_prompt == "preserved":
            rows, texts = torch.cat([problem.empty, rows]), texts + 1
        scale = self.preserve_scale
        if scale is None:
            scale = max(0.1, 1 / max(texts, 1))
        rows = rows * scale**0.5
        if problem.prior is None or not self.prior_scale:
            metric = ridge_and_rows(self.ridge, rows)
        else:
            metric = self._prior_metric(problem.prior.mean, rows / max(rows.shape[0], 1) ** 0.5)
        fixed = self.empty_prompt == "fixed"
        return metric.constrained(leading(problem.empty)) if fixed else metric

    def with_reading(self, reading: Reading) -> UnifiedConceptEditing:
        """The same solver reading texts in another way."""
        return replace(self, reading=reading)

    def _prior_metric(
        self, moment: Float[Tensor, "width width"], rows: Float[Tensor, "rows width"]
    ) -> Metric:
        cost = self.prior_scale * moment + rows.T @ rows
        ridge = self.ridge * float(cost.trace()) / cost.shape[0]
        return cholesky(cost + ridge * torch.eye(cost.shape[0], dtype=torch.float64))


def _expanded(made: UnifiedConceptEditing, templates: tuple[str, ...]) -> UnifiedConceptEditing:
    """Changed names in more sentences; preserved texts as they are, the empty anchor left open."""
    reading = replace(made.reading, templates=templates, preserve_templates=PLAIN, open_anchor=True)
    return replace(made, reading=reading)


def moved_share(edit: ContextMap, rows: Float[Tensor, "kept width"]) -> float:
    """How far rows move against how far they lie apart; 0 for fewer than two rows."""
    if rows.shape[0] < 2:
        return 0.0
    spread = float((rows - rows.mean(0)).norm())
    return float(edit.delta(rows).norm()) / max(spread, 1e-300)


def leading(rows: Float[Tensor, "rows width"], energy: float = 1e-4) -> Tensor:
    """The start token and the few directions that make up the rest of the empty prompt.

    All 77 rows as hard constraints would take that many directions away from a small model.

    Args:
        rows: contexts of the empty prompt, start token first.
        energy: directions below this fraction of the squared length are left out.
    """
    _, sizes, basis = torch.linalg.svd(rows[1:], full_matrices=False)
    kept = sizes**2 > energy * (sizes**2).sum()
    return torch.cat([rows[:1], basis[kept]])


def condensed(problem: Problem, energy: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """Fewer rows with the same sum of squares.

    A tail of padding is dozens of nearly equal rows. Rotating a concept's rows among themselves
    changes no sum of squares, so the singular directions of (source, move) replace them.

    Returns:
        Sources, moves and owners.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    owners: list[int] = []
    joint = torch.cat([problem.sources, problem.moves], 1) * problem.weights.sqrt()[:, None]
    for concept in range(len(problem.concepts)):
        turned = fewer(joint[problem.owners == concept], energy)
        parts.append((turned[:, : problem.width], turned[:, problem.width :]))
        owners += [concept] * turned.shape[0]
    sources, moves = (torch.cat(part) for part in zip(*parts, strict=True))
    return sources, moves, torch.tensor(owners)


def fewer(rows: Float[Tensor, "rows columns"], energy: float) -> Float[Tensor, "fewer columns"]:
    """Orthogonal rows with the same Gram matrix, up to a fraction of its trace.

    >>> import torch
    >>> fewer(torch.tensor([[3.0, 0.0], [4.0, 0.0]]).double(), energy=1e-6).abs().tolist()
    [[5.0, 0.0]]
    """
    if rows.shape[0] <= rows.shape[1]:  # an eigenbasis of the small side, not an SVD of both
        squares, basis = torch.linalg.eigh(rows @ rows.T)
        kept = squares > energy * squares.sum()
        small: Tensor = basis.T[kept] @ rows
        return small
    squares, columns = torch.linalg.eigh(rows.T @ rows)
    kept = squares > energy * squares.sum()
    turned: Tensor = columns.T[kept] * squares[kept].clamp_min(0).sqrt()[:, None]
    return turned


def balanced(
    metric: Metric,
    sources: Float[Tensor, "edits width"],
    moves: Float[Tensor, "edits width"],
    owners: Tensor,
    tolerance: float,
    rounds: int = 16,
) -> Float[Tensor, " edits"]:
    """Weights with which each concept keeps about ``tolerance`` of its distance.

    Multiplicative updates: a concept that is still too far counts more, one that is closer than
    asked counts less.

    Returns:
        One weight per row, equal within a concept.
    """
    whitened = metric.whiten(sources.T)  # from here on a change costs 1 in every direction
    size = (whitened**2).sum(0).clamp_min(1e-300)
    concepts = int(owners.max()) + 1
    asked = _per_concept(moves, owners, concepts).clamp_min(1e-300)
    typical = _per_concept(size[:, None], owners, concepts) / torch.bincount(owners) ** 0.5
    weights = 1 / typical
    for _ in range(rounds):
        edit = ridge_solve(IDENTITY, whitened.T, moves, weights[owners])
        left = _per_concept(moves - (whitened.T @ edit.B) @ edit.A.T, owners, concepts) / asked
        step = (left / tolerance).clamp(0.25, 4.0)
        weights = (weights * step).clamp(1e-3 / typical, 1e6 / typical)
    return weights[owners]


def _per_concept(rows: Tensor, owners: Tensor, concepts: int) -> Tensor:
    """Length of all rows of each concept together."""
    squares = torch.zeros(concepts, dtype=torch.float64).index_add(0, owners, (rows**2).sum(1))
    return squares.sqrt()
