"""How far two sets of pictures are apart as distributions: KID, CMMD and FID.

KID: Mikołaj Bińkowski and others, "Demystifying MMD GANs", ICLR 2018 (arXiv 1801.01401): the
squared MMD with the kernel (x·y/width + 1)³. CMMD: Sadeep Jayasumana and others, "Rethinking FID",
CVPR 2024 (arXiv 2401.09603): the squared MMD of CLIP embeddings of length 1 with a Gaussian kernel
of width 10, times 1000. FID: Martin Heusel and others, "GANs Trained by a Two Time-Scale Update
Rule", NeurIPS 2017 (arXiv 1706.08500), eq. 6.

KID and CMMD are unbiased here (U-statistics; where both sets come from the same seeds, pairs with
themselves are left out on both sides and across), so they may fall below 0 when the sets are alike.
Where we depart: the published CMMD keeps the diagonal and is biased upwards by a little. FID is
biased upwards with few pictures, in a way that depends on the model, so that FIDs of different n
cannot be compared (Mikołaj Bińkowski, appendix D); it is refused below one picture a feature.
Every library that computes these pulls in torchvision for its own Inception; the features here are
those of any encoder that is given, and a figure is comparable only with the same encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import sqrtm

from tadasu.errors import BadInput
from tadasu.statistics.bootstrap import bootstrap_items
from tadasu.statistics.intervals import Interval

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray

CMMD_WIDTH, CMMD_SCALE = 10.0, 1000.0

Kernel = Callable[["NDArray[np.float64]", "NDArray[np.float64]"], "NDArray[np.float64]"]


def polynomial(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """KID's kernel, (x·y/width + 1)³.

    >>> polynomial(np.array([[1.0, 1.0]]), np.array([[2.0, 0.0]])).item()
    8.0
    """
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def gaussian(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """CMMD's kernel, exp(-|x - y|² / (2 · 10²))."""
    apart = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return np.asarray(np.exp(-np.maximum(apart, 0) / (2 * CMMD_WIDTH**2)))


def kid(
    first: Float[NDArray[np.float64], "picture width"],
    second: Float[NDArray[np.float64], "other width"],
    *,
    paired: bool = False,
    clusters: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Kernel Inception distance on given features, with a bootstrap interval.

    Args:
        first: features of the reference pictures.
        second: features of the others.
        paired: whether picture i of both was made from the same prompt and seed.
        clusters: of pairs, for example the prompt of each; pictures of one cluster are drawn
            together. Empty draws every pair by itself.
        draws: how often pictures are drawn again; pairs together.
        seed: makes the interval repeatable.

    Raises:
        BadInput: fewer than four pictures, shapes that do not fit, or features that are no number.

    Six 0 and six 1 against twelve 2, with the kernel (xy + 1)³:

    >>> one, two = np.array([[0.0], [0.0], [1.0], [1.0]] * 3), np.array([[2.0]] * 12)
    >>> round(kid(one, two).estimate, 6)  # 342/132 within, 125 within, 14 across
    99.590909
    """
    return _mmd(polynomial, first, second, paired, draws, seed, 1.0, clusters)


def cmmd(
    first: Float[NDArray[np.float64], "picture width"],
    second: Float[NDArray[np.float64], "other width"],
    *,
    paired: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """CLIP-MMD of features, which are brought to length 1, times 1000.

    Args:
        first: CLIP embeddings of the reference pictures.
        second: of the others.
        paired: as in `kid`.
        draws: as in `kid`.
        seed: as in `kid`.

    Raises:
        BadInput: as `kid`, or a vector of length 0.
    """
    one, two = (_unit(each) for each in _checked(first, second, paired))
    return _mmd(gaussian, one, two, paired, draws, seed, CMMD_SCALE)


@dataclass(frozen=True, kw_only=True)
class Fid:
    """A Fréchet distance and the numbers of pictures without which it says nothing.

    Attributes:
        value: the distance, from 0.
        n: pictures in the smaller set.
        width: features a picture.
    """

    value: float
    n: int
    width: int


def fid(
    first: Float[NDArray[np.float64], "picture width"],
    second: Float[NDArray[np.float64], "other width"],
) -> Fid:
    """Fréchet distance between Gaussians fitted to features: |μ₁-μ₂|² + tr(Σ₁+Σ₂-2(Σ₁Σ₂)^½).

    Computed in float64; there is no interval, because the bootstrap of a biased estimate would
    only repeat its bias.

    Args:
        first: features of the reference pictures.
        second: features of the others.

    Raises:
        BadInput: as `kid`; or not more pictures than features, where covariances are singular and
            the distance is mostly bias.

    >>> cross = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(fid(cross, cross * 2 + 3).value, 9)     # |(3, 3)|² + 2 · (2 - 1)² · 2/3
    19.333333333
    """
    one, two = _checked(first, second, paired=False)
    n, width = min(len(one), len(two)), one.shape[1]
    if n <= width:
        raise BadInput(
            f"FID needs more pictures than features ({width}) in both sets; the smaller has {n}. "
            "With few pictures use KID or CMMD, which are unbiased."
        )
    apart = one.mean(0) - two.mean(0)
    spread, other = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, two))
    root = sqrtm(spread @ other)
    value = float(apart @ apart + np.trace(spread) + np.trace(other) - 2 * np.trace(root).real)
    return Fid(value=max(value, 0.0), n=n, width=width)


def _mmd(
    kernel: Kernel,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    paired: bool,
    draws: int,
    seed: int,
    scale: float,
    clusters: Sequence[str] = (),
) -> Interval:
    """The unbiased squared MMD; the bootstrap draws pictures, and counts none with itself."""
    one, two = _checked(first, second, paired)
    own, other, cross = kernel(one, one), kernel(two, two), kernel(one, two)
    for table in (own, other, *((cross,) if paired else ())):
        np.fill_diagonal(table, 0.0)
    if paired:
        whole = own + other - cross - cross.T
        place = np.unique(clusters, return_inverse=True)[1] if clusters else np.arange(len(one))
        if place.size != len(one):
            raise BadInput(f"Give one cluster a pair; given {place.size} for {len(one)} pairs.")
        return bootstrap_items(
            lambda weights: scale * _within(whole, weights[:, place]),
            int(place.max()) + 1,
            draws=draws,
            seed=seed,
        )

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        w, v = weights[:, : len(one)], weights[:, len(one) :]
        across = np.einsum("di,ij,dj->d", w, cross, v, optimize=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            across = across / (w.sum(1) * v.sum(1))
        return np.asarray(scale * (_within(own, w) + _within(other, v) - 2 * across))

    items = len(one) + len(two)
    return bootstrap_items(statistic, items, draws=draws, seed=seed)


def _within(table: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean over pairs of different pictures; the table's diagonal is 0."""
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.einsum("di,ij,dj->d", weights, table, weights, optimize=True) / pairs)


def _checked(
    first: NDArray[np.float64], second: NDArray[np.float64], paired: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, two = (np.asarray(each, dtype=np.float64) for each in (first, second))
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1]:
        raise BadInput(f"Features of both sets need one width; given {one.shape}, {two.shape}.")
    if min(len(one), len(two)) < 4 or (paired and len(one) != len(two)):
        raise BadInput(
            f"A distance between sets needs four pictures in each, and as many in both where they "
            f"are pairs; given {len(one)} and {len(two)}."
        )
    if not (np.all(np.isfinite(one)) and np.all(np.isfinite(two))):
        raise BadInput("A feature is not finite; leave pictures that could not be encoded out.")
    return one, two


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if np.any(lengths == 0):
        raise BadInput("An embedding has length 0.")
    return np.asarray(rows / lengths)
