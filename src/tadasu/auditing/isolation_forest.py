"""Isolation forest: how few random cuts set a point apart from the points it was fitted on.

Fei Tony Liu, Kai Ming Ting, Zhi-Hua Zhou, "Isolation Forest", ICDM 2008: algorithms 1 to 3 and
eq. 1 and 2. The preset ``paia`` of :mod:`tadasu.auditing.decide` needs it; nothing else does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tadasu.errors import BadInput

Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A cut (``feature`` below ``value`` goes left), or a leaf with the number of its points."""

    size: int
    feature: int = -1
    value: float = 0.0
    left: _Node | None = None
    right: _Node | None = None


@dataclass(frozen=True, kw_only=True)
class IsolationForest:
    """A fitted forest.

    Attributes:
        trees: their roots.
        sample: points per tree.
        threshold: anomaly score from which a point is called an anomaly.
    """

    trees: tuple[_Node, ...]
    sample: int
    threshold: float

    @classmethod
    def fit(
        cls,
        points: Points,
        *,
        trees: int = 100,
        sample: int = 256,
        contamination: float = 0.05,
        seed: int = 42,
    ) -> IsolationForest:
        """Grow a forest on points that count as ordinary.

        Args:
            points: shape (point, feature).
            trees: how many.
            sample: points per tree, at most; fewer where there are fewer.
            contamination: share of the points themselves that the threshold calls anomalies.
            seed: of cuts and samples.

        Raises:
            BadInput: fewer than two points.
        """
        if points.ndim != 2 or len(points) < 2:
            raise BadInput(f"A forest needs at least two points; given {len(points)}.")
        size = min(sample, len(points))
        deepest = math.ceil(math.log2(size))
        rng = np.random.default_rng(seed)
        grown = tuple(
            _grow(points[rng.choice(len(points), size, replace=False)], deepest, rng)
            for _ in range(trees)
        )
        bare = cls(trees=grown, sample=size, threshold=math.inf)
        limit = float(np.quantile(bare.scores(points), 1 - contamination))
        return cls(trees=grown, sample=size, threshold=limit)

    def scores(self, points: Points) -> NDArray[np.float64]:
        """Anomaly scores, from 0 to 1; about 0.5 is ordinary (eq. 2)."""
        depths = np.array([[_depth(tree, point) for tree in self.trees] for point in points])
        return np.asarray(2.0 ** -(depths.mean(1) / _average(self.sample)), dtype=np.float64)

    def anomalies(self, points: Points) -> NDArray[np.bool_]:
        """Whether each point is beyond the threshold."""
        return np.asarray(self.scores(points) > self.threshold)


def _grow(points: Points, depth: int, rng: np.random.Generator) -> _Node:
    spread = points.max(0) - points.min(0) if len(points) else np.zeros(0)
    wide = np.flatnonzero(spread > 0)
    if depth == 0 or len(points) <= 1 or not wide.size:
        return _Node(size=len(points))
    feature = int(rng.choice(wide))
    column = points[:, feature]
    value = float(rng.uniform(column.min(), column.max()))
    below = column < value
    return _Node(
        size=len(points),
        feature=feature,
        value=value,
        left=_grow(points[below], depth - 1, rng),
        right=_grow(points[~below], depth - 1, rng),
    )


def _depth(node: _Node, point: Points) -> float:
    depth = 0.0
    while node.left is not None and node.right is not None:
        node = node.left if point[node.feature] < node.value else node.right
        depth += 1
    return depth + _average(node.size)


def _average(size: int) -> float:
    """Mean depth of an unsuccessful search in a tree of that many points (eq. 1).

    >>> round(_average(256), 2)
    10.24
    """
    if size <= 1:
        return 0.0
    harmonic = math.log(size - 1) + 0.5772156649 if size > 2 else 1.0
    return 2 * harmonic - 2 * (size - 1) / size
