"""Curves over a threshold: ROC and precision-recall, the areas under them, and the best threshold.

Does: one class against the rest, from scores of any scale; equal to scikit-learn. Does not: choose
what a false alarm costs (you do), draw (`plots` does). Used by chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Points of a curve, one for each distinct threshold, from the strictest to the laxest."""

    x: np.ndarray
    y: np.ndarray
    thresholds: np.ndarray


class Threshold(NamedTuple):
    """A threshold and what it brings: rows that score at least `value` are called positive."""

    value: float
    score: float


def roc_curve(scores: Sequence[float], positive: Sequence[bool]) -> Curve:
    """False-positive rate (x) against true-positive rate (y) as the threshold falls.

    Lower the threshold past one row after another: each positive row lifts the curve by 1 / P, each
    negative one moves it right by 1 / N; tied rows move together. `scores` and `positive` are
    (rows,). The first point is (0, 0), at an infinite threshold. Raises ValueError without a
    positive or a negative row. Equal to `sklearn.metrics.roc_curve(drop_intermediate=False)`.
    Source: Fawcett 2006, An introduction to ROC analysis, algorithm 1.

    >>> curve = roc_curve([0.9, 0.8, 0.3], [True, False, True])
    >>> curve.x.tolist(), curve.y.tolist()
    ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    """
    hits, alarms, thresholds = _counts(scores, positive)
    return Curve(
        np.append(0, alarms / alarms[-1]),
        np.append(0, hits / hits[-1]),
        np.append(np.inf, thresholds),
    )


def roc_area(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order.

    Ties count half. 0.5 is a coin, and class balance does not matter. Equal to
    `sklearn.metrics.roc_auc_score`.

    >>> roc_area([0.9, 0.8, 0.3], [True, False, True])  # one of two pairs is in order
    0.5
    """
    curve = roc_curve(scores, positive)
    return float(np.trapezoid(curve.y, curve.x))


def precision_recall_curve(scores: Sequence[float], positive: Sequence[bool]) -> Curve:
    """Recall (x) against precision (y) as the threshold falls; (rows,) scores and truths.

    Where positives are rare, this shows what ROC hides: of the alarms, how many are right. Raises
    ValueError without a positive or a negative row. The points are those of
    `sklearn.metrics.precision_recall_curve`, which lists them backwards.

    >>> curve = precision_recall_curve([0.9, 0.8, 0.3], [True, False, True])
    >>> curve.x.tolist(), curve.y.round(2).tolist()
    ([0.5, 0.5, 1.0], [1.0, 0.5, 0.67])
    """
    hits, alarms, thresholds = _counts(scores, positive)
    return Curve(hits / hits[-1], hits / (hits + alarms), thresholds)


def average_precision(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Precision averaged over the steps of recall: `sum (recall_i - recall_(i-1)) precision_i`.

    A scorer that knows nothing gets the share of positives. Equal to
    `sklearn.metrics.average_precision_score`.

    >>> round(average_precision([0.9, 0.8, 0.3], [True, False, True]), 4)
    0.8333
    """
    curve = precision_recall_curve(scores, positive)
    return float(np.sum(np.diff(curve.x, prepend=0) * curve.y))


def best_threshold(scores: Sequence[float], positive: Sequence[bool]) -> Threshold:
    """The threshold with the best F1; choose it on validation rows, never on the test's.

    F1 = 2 TP / (2 TP + FP + FN) at each distinct score; of equal ones, the strictest.

    >>> best_threshold([0.9, 0.8, 0.3, 0.1], [True, True, False, False])
    Threshold(value=0.8, score=1.0)
    """
    hits, alarms, thresholds = _counts(scores, positive)
    f1 = 2 * hits / (hits + alarms + hits[-1])
    return Threshold(float(thresholds[f1.argmax()]), float(f1.max()))


def _counts(
    scores: Sequence[float], positive: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives at each distinct score, from the highest down; those scores."""
    values, truth = np.asarray(scores, float), np.asarray(positive, bool)
    if values.shape != truth.shape or values.ndim != 1:
        raise ValueError(f"scores {values.shape} and truths {truth.shape} must be (rows,) each")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} scores are not finite: drop them")
    if truth.all() or not truth.any():
        raise ValueError(
            f"{int(truth.sum())} of {len(truth)} rows are positive: a curve needs both"
        )
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits = np.cumsum(truth[order])[ends]
    return hits, ends + 1 - hits, values[order][ends]
