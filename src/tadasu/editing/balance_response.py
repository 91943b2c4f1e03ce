"""How shares answer to amounts: one small model of all concepts, from everything that was counted.

Per concept ``k`` and value ``v`` of one attribute the log-odds are linear in the amount,

    share_v = softmax(b_kv + s_k a_v),        log s_k ~ N(log s, 0.4²),   b_kv ~ N(0, 2²),

so a concept that was drawn with three different amounts tells its slope, and one that was drawn
once borrows it from the others. The fit is the posterior mode. Wanted shares then have an answer in
closed form: ``a_v = (log wanted_v - b_kv) / s_k``, up to a constant that changes no share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

SPREAD_OF_SLOPES = 0.4
SPREAD_OF_PRIOR = 1.0
SPREAD_OF_SKEW = 2.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Pictures of one concept that were drawn with the same amounts.

    Args:
        amounts: of every value.
        counts: pictures in which each value was seen.
    """

    amounts: Mapping[str, float]
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Response:
    """The fitted model of one attribute.

    Args:
        values: of the attribute, in a fixed order.
        skew: per concept and value, the log-odds without any amount.
        slope: per concept, log-odds per unit of amount.
    """

    values: tuple[str, ...]
    skew: Mapping[str, Floats]
    slope: Mapping[str, float]

    def shares(self, concept: str, amounts: Mapping[str, float]) -> dict[str, float]:
        """What shares the concept has with these amounts."""
        added = np.array([amounts.get(value, 0.0) for value in self.values])
        found = softmax(self.skew[concept] + self.slope[concept] * added)
        return dict(zip(self.values, map(float, found), strict=True))

    def amounts(self, concept: str, wanted: Mapping[str, float], most: float) -> dict[str, float]:
        """Amounts that give the wanted shares, their sum 0, none larger than ``most``."""
        asked = np.log([wanted[value] for value in self.values])
        found = (asked - self.skew[concept]) / self.slope[concept]
        found -= found.mean()
        found *= min(1.0, most / max(float(np.abs(found).max()), 1e-12))
        return dict(zip(self.values, map(float, found), strict=True))


def fit(looks: Mapping[str, Sequence[Look]], values: Sequence[str], slope: float) -> Response:
    """The posterior mode from everything that was counted.

    Args:
        looks: per concept.
        values: of the attribute.
        slope: log-odds per unit of amount that is expected beforehand, above 0.

    >>> seen = Look(amounts={}, counts={"man": 90, "woman": 10})
    >>> found = fit({"pilot": [seen]}, ("man", "woman"), slope=1.0)
    >>> round(found.shares("pilot", {})["man"], 1)
    0.9
    >>> {v: round(a) for v, a in found.amounts("pilot", {"man": 0.5, "woman": 0.5}, 9).items()}
    {'man': -1, 'woman': 1}
    """
    names, kinds = list(looks), len(values)
    owner = np.array([k for k, name in enumerate(names) for _ in looks[name]], dtype=int)
    every = [look for name in names for look in looks[name]]
    added = np.array([[look.amounts.get(v, 0.0) for v in values] for look in every])
    counts = np.array([[look.counts.get(v, 0) for v in values] for look in every], dtype=float)
    added, counts = added.reshape(-1, kinds), counts.reshape(-1, kinds)
    size, middle = len(names) * kinds, np.log(slope)

    def cost(point: Floats) -> tuple[float, Floats]:
        skew, steep, common = point[:size].reshape(-1, kinds), point[size:-1], point[-1]
        rate = np.exp(steep)[owner, None]
        log_shares = log_softmax(skew[owner] + rate * added, axis=1)
        off = np.exp(log_shares) * counts.sum(1, keepdims=True) - counts
        apart = (steep - common) / SPREAD_OF_SLOPES**2
        away = (common - middle) / SPREAD_OF_PRIOR**2
        value = -(counts * log_shares).sum() + (skew**2).sum() / (2 * SPREAD_OF_SKEW**2)
        value += apart @ (steep - common) / 2 + away * (common - middle) / 2
        to_skew, to_steep = skew / SPREAD_OF_SKEW**2, apart.copy()
        np.add.at(to_skew, owner, off)
        np.add.at(to_steep, owner, (off * rate * added).sum(1))
        return float(value), np.concatenate([to_skew.ravel(), to_steep, [away - apart.sum()]])

    start = np.concatenate([np.zeros(size), np.full(len(names) + 1, middle)])
    best = minimize(cost, start, jac=True, method="L-BFGS-B").x
    return Response(
        values=tuple(values),
        skew=dict(zip(names, best[:size].reshape(-1, kinds), strict=True)),
        slope=dict(zip(names, map(float, np.exp(best[size:-1])), strict=True)),
    )
