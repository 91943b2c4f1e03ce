"""Making a detector's probabilities mean what they say.

Temperature scaling and the expected calibration error of Guo, Pleiss, Sun, Weinberger, "On
Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), section 4.2 and eq. 3.
Two-class scores (a list of logits) and many-class scores (one row of logits an item) are both
taken. Where we depart: the error is for the probability of the positive class with two classes,
and for the winning class with more, as the paper has it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from tadasu.errors import BadInput

COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures that are searched; an answer at either end is no answer."""


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The number by which logits are divided so that held-out labels become most likely.

    Args:
        logits: scores before sigmoid or softmax, of held-out items; shape (item) for two classes
            or (item, class) for more.
        labels: the truth; 0 or 1, or the number of the class; shape (item).

    Returns:
        The temperature; above 1 the detector was too sure of itself, below 1 not sure enough.

    Raises:
        BadInput: the shapes do not fit, a value is not finite, only one class is present, or no
            temperature between 0.01 and 100 is best (the labels are separated without error, or
            the logits say nothing about them).

    Said with odds of 9 to 1 but right 3 times of 4 (odds of 3 to 1) is too sure by ln 9 / ln 3:

    >>> import math
    >>> round(temperature([math.log(9)] * 4 + [-math.log(9)] * 4, [1, 1, 1, 0, 0, 0, 0, 1]), 4)
    2.0
    """
    scores, truth = _checked(logits, labels)
    if np.unique(truth).size < 2:
        raise BadInput("A temperature needs labelled items of at least two classes.")

    def loss(log_heat: float) -> float:
        return -float(np.mean(_log_likelihood(scores / np.exp(log_heat), truth)))

    found = minimize_scalar(
        loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-8}
    )
    best = float(np.exp(found.x))
    if best < 1.01 * COLDEST or best > HOTTEST / 1.01:
        raise BadInput(
            f"No temperature from {COLDEST} to {HOTTEST:g} fits: the logits separate the labels "
            "without error, or say nothing about them. Give more, and harder, labelled items."
        )
    return best


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, *, bins: int = 15
) -> float:
    """How far probabilities are from frequencies, on average over equally wide bins.

    Args:
        probabilities: of the positive class, shape (item); or of all classes, shape
            (item, class), of which the largest is judged.
        labels: the truth; 0 or 1, or the number of the class; shape (item).
        bins: number of equally wide bins between 0 and 1.

    Returns:
        The error, from 0 (well calibrated) to 1. With few items in a bin it is biased upwards.

    Raises:
        BadInput: the shapes do not fit, or a probability is outside 0 to 1.

    >>> expected_calibration_error([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 0])  # says 0.9, is 0.75
    0.15
    """
    stated, truth = _checked(probabilities, labels)
    if bins < 1:
        raise BadInput(f"The number of bins must be at least 1; given {bins}.")
    if np.any((stated < 0) | (stated > 1)):
        raise BadInput("A probability lies between 0 and 1; were these logits?")
    if stated.ndim == 2:
        right = (np.argmax(stated, axis=1) == truth).astype(np.float64)
        stated = np.max(stated, axis=1)
    else:
        right = truth.astype(np.float64)
    place = np.minimum((stated * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=right - stated, minlength=bins)
    return round(float(np.sum(np.abs(gap)) / right.size), 12)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels)
    if values.ndim not in (1, 2) or truth.shape != values.shape[:1] or truth.size == 0:
        raise BadInput(
            f"Give one label for each item; the scores have shape {values.shape} "
            f"and the labels {truth.shape}."
        )
    if not np.all(np.isfinite(values)):
        raise BadInput("Every score must be a finite number; leave unscored items out.")
    classes = 2 if values.ndim == 1 else values.shape[1]
    if not np.all(np.isin(truth, np.arange(classes))):
        raise BadInput(f"Every label must be a whole number from 0 to {classes - 1}.")
    return values, truth.astype(np.int64)


def _log_likelihood(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    if logits.ndim == 1:
        return np.asarray(log_expit(np.where(labels == 1, logits, -logits)))
    return np.asarray(log_softmax(logits, axis=1)[np.arange(labels.size), labels])
