"""Calibration: does a model that says 80 % get 80 % of these rows right? And how to mend it.

Does: the reliability diagram's bins, expected calibration error, Brier score, temperature scaling.
Does not: draw (`plots` does), calibrate with more than one number. Used by chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 15


class Bins(NamedTuple):
    """Rows by confidence: the mean of it, the share that is right, how many; one entry a bin."""

    confidence: np.ndarray
    accuracy: np.ndarray
    rows: np.ndarray


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """`exp(z / T)` over its sum, along the last axis, with the largest logit taken off first.

    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    scaled = np.asarray(logits, float) / temperature
    raised = np.exp(scaled - scaled.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def reliability(probabilities: np.ndarray, labels: Sequence[int], *, bins: int = BINS) -> Bins:
    """Rows sorted into equal steps of confidence, the probability of the class that was chosen.

    `probabilities` (rows, classes), `labels` (rows,). Bin b holds confidences in ((b - 1) / bins,
    b / bins]; empty bins are left out. Raises ValueError on shapes that do not fit and rows that do
    not sum to 1. Source: Guo et al. 2017, arXiv:1706.04599, equation 2.

    >>> found = reliability(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), [0, 1, 0], bins=2)
    >>> found.accuracy.round(2).tolist(), found.rows.tolist()
    ([0.67], [3])
    """
    given, truth = _checked(probabilities, labels)
    confidence, right = given.max(1), given.argmax(1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = np.bincount(place, minlength=bins)
    some = rows > 0
    mean = [
        np.bincount(place, weights=v, minlength=bins)[some] / rows[some]
        for v in (confidence, right)
    ]
    return Bins(mean[0], mean[1], rows[some])


def expected_calibration_error(
    probabilities: np.ndarray, labels: Sequence[int], *, bins: int = BINS
) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their rows.

        ECE = sum_b (n_b / n) |accuracy_b - confidence_b|

    It is biased upwards on few rows, and depends on the number of bins: compare like with like.
    Source: Guo et al. 2017, equation 3.

    >>> expected_calibration_error(np.array([[1.0, 0.0], [1.0, 0.0]]), [0, 1])
    0.5
    """
    found = reliability(probabilities, labels, bins=bins)
    return float(np.sum(found.rows * np.abs(found.accuracy - found.confidence)) / found.rows.sum())


def brier(probabilities: np.ndarray, labels: Sequence[int]) -> float:
    """Mean over rows of the squared distance to the one-hot truth: from 0 to 2.

    Unlike the calibration error it also punishes a model that is calibrated and knows nothing.
    Source: Brier 1950; `sklearn.metrics.brier_score_loss` with `scale_by_half=False`.

    >>> brier(np.array([[1.0, 0.0], [0.5, 0.5]]), [0, 0])
    0.25
    """
    given, truth = _checked(probabilities, labels)
    return float(np.square(given - np.eye(given.shape[1])[truth]).sum(1).mean())


def log_loss(probabilities: np.ndarray, labels: Sequence[int]) -> float:
    """Mean of -ln p(label), in nats; equal to `sklearn.metrics.log_loss`.

    >>> round(log_loss(np.array([[0.5, 0.5]]), [1]), 4)
    0.6931
    """
    given, truth = _checked(probabilities, labels)
    chosen = given[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(chosen, np.finfo(float).eps, 1)).mean())


def fit_temperature(logits: np.ndarray, labels: Sequence[int]) -> float:
    """The temperature T that minimises the log loss of softmax(z / T), on validation rows.

    One number, so it cannot overfit much, and it never changes which class is chosen. The loss is
    convex in 1 / T, so it has one minimum; it is looked for from T = 0.01 to 100. `logits` (rows,
    classes). Source: Guo et al. 2017, section 4.2.

    >>> fit_temperature(np.array([[2.0, 0.0]] * 3 + [[0.0, 2.0]]), [0, 0, 0, 0]) > 1  # too sure
    True
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    given, truth = np.asarray(logits, float), np.asarray(labels)
    rows = np.arange(len(truth))

    def loss(log_inverse: float) -> float:  # not of the probabilities: those round to 0
        return -log_softmax(given * np.exp(log_inverse), -1)[rows, truth].mean()

    widest = np.log(100)
    found = minimize_scalar(loss, bounds=(-widest, widest), method="bounded")
    return float(np.exp(-found.x))


def _checked(probabilities: np.ndarray, labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    given, truth = np.asarray(probabilities, float), np.asarray(labels)
    if given.ndim != 2 or truth.shape != given.shape[:1] or not len(truth):
        raise ValueError(
            f"probabilities {given.shape}, labels {truth.shape}: not (n, classes), (n,)"
        )
    worst = float(np.abs(given.sum(1) - 1).max())
    if not worst < 1e-3:
        raise ValueError(f"a row sums to {1 + worst:.3g}, not 1: are these logits? Use softmax(…)")
    if truth.min() < 0 or truth.max() >= given.shape[1]:
        raise ValueError(f"label {truth.max()} has no column among {given.shape[1]} classes")
    return given, truth
