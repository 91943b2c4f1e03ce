"""Thresholds with a promise: which of many rules keeps a rate below a limit on the next items?

Learn then Test: Anastasios Angelopoulos, Stephen Bates, Emmanuel Candès, Michael Jordan, Lihua Lei,
"Learn then Test: Calibrating Predictive Algorithms to Achieve Risk Control", 2021 (arXiv
2110.01052), Theorem 1 with the p-values of section 3.2 and the sequential tests of section 4. Every
rule is a hypothesis "its rate is above the limit"; a rule whose hypothesis falls, while the chance
that any true one falls stays below 1 - confidence, is certified. The tests are those of MAPIE
(`mapie.risk_control`), an optional part.

The promise holds for items that are drawn like the labelled ones, and for nothing else: not for
other traffic, not for another model behind the scores, and not for people who look for gaps.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from tadasu.errors import BadInput, MissingPart, shown
from tadasu.statistics.intervals import Interval, clopper_pearson

if TYPE_CHECKING:
    from types import ModuleType

Risk = Literal["missed", "false alarms"]
Correction = Literal["fixed sequence", "holm", "bonferroni"]
_PROCEDURES = {"fixed sequence": "fixed_sequence", "holm": "bonferroni_holm"}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What must hold of the next items.

    Args:
        risk: ``"missed"``, the share of positive items that are not flagged, or ``"false alarms"``,
            the share of negative items that are.
        limit: the largest rate, above 0 and below 1.

    Raises:
        BadInput: another risk, or a limit out of range.
    """

    risk: Risk = "missed"
    limit: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what cannot be promised."""
        if self.risk not in get_args(Risk):
            raise BadInput(f"A risk is one of {', '.join(get_args(Risk))}; got {shown(self.risk)}.")
        if not 0 < self.limit < 1:
            raise BadInput(f"A limit lies above 0 and below 1; given {self.limit}.")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Which rules keep the promises.

    Attributes:
        certified: by rule, whether it is certified.
        p_values: by rule, the largest over the promises.
        chosen: the certified rule with the fewest false alarms (with the fewest missed items where
            only false alarms are promised); None when nothing can be certified.
        missed: share of positive items that the chosen rule misses, Clopper-Pearson.
        false_alarms: share of negative items that it flags, Clopper-Pearson.
    """

    certified: NDArray[np.bool_]
    p_values: NDArray[np.float64]
    chosen: int | None
    missed: Interval | None
    false_alarms: Interval | None


def certify(
    flagged: ArrayLike,
    positive: ArrayLike,
    promises: Sequence[Promise],
    *,
    confidence: float = 0.95,
    correction: Correction = "fixed sequence",
) -> Certificate:
    """Tests rules on labelled items that had no part in making or ordering the rules.

    Args:
        flagged: what each rule says; boolean, shape (rule, item).
        positive: the truth; boolean, shape (item).
        promises: all must hold of a certified rule.
        confidence: how often, over draws of the items, every certified rule keeps its promises;
            above 0 and below 1.
        correction: ``"fixed sequence"`` tests the rules in the order given and stops at the first
            that fails, so the safest comes first; ``"holm"`` and ``"bonferroni"`` need no order
            and certify less.

    Raises:
        BadInput: shapes that do not fit, no promise, no rule, or no item of a kind that is
            promised about.
        MissingPart: the extra ``calibrate`` is not installed.

    100 positive items, none missed: at most 5 % missed is certain enough, at most 2 % is not
    (0.98 to the power of 100 is 0.13).

    >>> flags = [[True] * 100 + [False] * 50]
    >>> truth = [True] * 100 + [False] * 50
    >>> [certify(flags, truth, [Promise(limit=limit)]).chosen for limit in (0.05, 0.02)]
    [0, None]
    """
    said, truth = _checked(flagged, positive, promises, confidence)
    if correction not in get_args(Correction):
        known = ", ".join(get_args(Correction))
        raise BadInput(f"A correction is one of {known}; got {shown(correction)}.")
    p_values = _p_values(said, truth, promises)
    certified = np.zeros(len(said), dtype=np.bool_)
    procedure = _PROCEDURES.get(correction, correction)
    certified[_mapie().control_fwer(p_values, 1 - confidence, procedure)] = True
    chosen = _best(said, truth, certified, promises)
    missed = false_alarms = None
    if chosen is not None:
        missed = _share(~said[chosen][truth], confidence)
        false_alarms = _share(said[chosen][~truth], confidence)
    return Certificate(
        certified=certified,
        p_values=p_values,
        chosen=chosen,
        missed=missed,
        false_alarms=false_alarms,
    )


def needed(limit: float, *, missed: int = 0, confidence: float = 0.95) -> int:
    """How many items one rule must be tried on, so that so few failures certify the limit.

    Raises:
        BadInput: a limit or confidence out of range, or fewer than 0 failures.

    >>> needed(0.05), needed(0.05, missed=4)
    (59, 181)
    """
    if missed < 0 or not (0 < limit < 1 and 0 < confidence < 1):
        raise BadInput("Limit and confidence lie between 0 and 1, failures are not negative.")
    low, high = missed, missed + 1
    while _tail(missed, high, limit) > 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high) if _tail(missed, middle, limit) > 1 - confidence else (low, middle)
        )
    return high


def _tail(failures: int, n: int, limit: float) -> float:
    """The chance of so few failures or fewer where the rate is the limit."""
    return float(bdtr(failures, n, limit))


def _checked(
    flagged: ArrayLike, positive: ArrayLike, promises: Sequence[Promise], confidence: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    said, truth = np.asarray(flagged), np.asarray(positive)
    if said.ndim != 2 or truth.shape != said.shape[1:] or not len(said):
        raise BadInput(
            f"Give one row of verdicts for each rule and one label for each item; given "
            f"{said.shape} and {truth.shape}."
        )
    if said.dtype != np.bool_ or truth.dtype != np.bool_:
        raise BadInput("Verdicts and labels are true or false; leave unscored items out.")
    if not promises or not 0 < confidence < 1:
        raise BadInput("Give at least one promise, and a confidence above 0 and below 1.")
    about = {promise.risk for promise in promises}
    if ("missed" in about and not truth.any()) or ("false alarms" in about and truth.all()):
        raise BadInput("There is no labelled item of a kind that something is promised about.")
    return said, truth


def _mapie() -> ModuleType:
    try:
        import mapie.risk_control as found
    except ImportError as error:
        raise MissingPart.extra("calibration with a guarantee", "calibrate") from error
    module: ModuleType = found
    return module


def _risk(name: Risk) -> Any:
    """A risk in MAPIE's own terms: when it occurs, and among which items."""
    risks = _mapie()
    kind = 1 if name == "missed" else 0
    return risks.BinaryRisk(
        risk_occurrence=lambda truth, said: said != truth,
        risk_condition=lambda truth, said: truth == kind,
        higher_is_better=False,
    )


def _p_values(
    said: NDArray[np.bool_], truth: NDArray[np.bool_], promises: Sequence[Promise]
) -> NDArray[np.float64]:
    """Of "this rule breaks a promise", the largest over the promises.

    Which rules pass is decided afterwards, in the order given: MAPIE's own fixed sequence takes one
    risk only and reads its direction off the items that are tested. That nothing can be certified
    is an answer here, so the warning about it is not passed on.
    """
    controller = _mapie().BinaryClassificationController(
        predict_function=lambda items, rule: said[int(rule), np.asarray(items, dtype=int)],
        risk=[_risk(promise.risk) for promise in promises],
        target_level=[promise.limit for promise in promises],
        best_predict_param_choice=_risk(promises[0].risk),
        list_predict_params=np.arange(len(said))[:, None],
        fwer_method="bonferroni",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        controller.calibrate(np.arange(truth.size), truth.astype(int))
    return np.asarray(controller.p_values, dtype=np.float64).reshape(len(said))


def _best(
    said: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    certified: NDArray[np.bool_],
    promises: Sequence[Promise],
) -> int | None:
    if not certified.any():
        return None
    costs = np.stack([(said & ~truth).sum(1), (~said & truth).sum(1)])
    if all(promise.risk == "false alarms" for promise in promises):
        costs = costs[::-1]
    places = np.flatnonzero(certified)
    order = np.lexsort((costs[1][places], costs[0][places]))
    return int(places[order[0]])


def _share(found: NDArray[np.bool_], confidence: float) -> Interval:
    return clopper_pearson(int(found.sum()), found.size, confidence=confidence)
