"""How much a frozen model already knows of a task: LogME, nearest neighbours, a linear probe.

Scores to rank checkpoints by before any of them is fine-tuned. They look at features, one vector a
row, and train nothing but linear maps; how well they predict the ranking after fine-tuning is
measured in `benchmarks/selection.py`. Used by `selection`, chapter 06.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """Of one model on one labelled sample; `probe` and `knn` are accuracies, `logme` in nats."""

    logme: float
    knn: float
    probe: float
    rows: int

    @property
    def error(self) -> float:
        """Standard error of `probe` and of `knn`, at most: that of a share of `rows`."""
        return math.sqrt(max(self.probe * (1 - self.probe), 1e-12) / self.rows)


def scores(features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Scores:
    """All three of `features` (rows, hidden) and `labels` (rows,), class numbers."""
    return Scores(
        logme(features, labels), knn_accuracy(features, labels),
        probe_accuracy(features, labels, seed=seed), len(labels),
    )  # fmt: skip


def logme(features: np.ndarray, labels: np.ndarray) -> float:
    """Log evidence of labels given features, in nats a row and class: the higher, the better.

    Each class is a regression of 0/1 on the features, w ~ N(0, 1/α) and noise 1/β; the evidence
    p(y | F, α, β) is that of all w together, so more features do not win by fitting more. α and β
    are those of the highest evidence. Features (rows, hidden) are taken as they are; no intercept.
    You et al. 2021 (arXiv:2102.11005), algorithm 1, by the fixed point of You et al. 2022.

    >>> x, knows, guesses = np.eye(4)[[0, 1, 2, 3] * 5], [0, 0, 1, 1] * 5, [0, 0, 0, 1, 1] * 4
    >>> logme(x, np.array(knows)) > logme(x, np.array(guesses))
    True
    """
    u, s, _ = np.linalg.svd(np.asarray(features, np.float64), full_matrices=False)
    answers = np.eye(int(labels.max()) + 1)[labels]
    classes = [c for c in range(answers.shape[1]) if answers[:, c].any()]
    found = [
        _best_evidence(u.T @ y, s**2, y @ y, len(y), features.shape[1]) for y in answers.T[classes]
    ]
    return float(np.mean(found))


def _best_evidence(
    z: np.ndarray, variance: np.ndarray, square: float, n: int, hidden: int
) -> float:
    """The highest evidence a row. `z` are y's coordinates along the left singular vectors."""
    alpha, beta = 1.0, 1.0
    outside = max(square - z @ z, 0.0)  # what no combination of features can reach
    for _ in range(100):
        ratio = alpha / beta
        gamma = (variance / (variance + ratio)).sum()  # effective number of weights
        length = (variance * z**2 / (variance + ratio) ** 2).sum()
        residual = ((ratio * z / (variance + ratio)) ** 2).sum() + outside
        alpha, beta = gamma / max(length, 1e-12), (n - gamma) / max(residual, 1e-12)
        if abs(alpha / beta - ratio) <= 1e-6 * ratio:
            break
    return evidence(z, variance, square, n, hidden, alpha, beta) / n


def evidence(
    z: np.ndarray, variance: np.ndarray, square: float, n: int, hidden: int,
    alpha: float, beta: float,
) -> float:  # fmt: skip
    """ln p(y | F, α, β) = ln N(y; 0, F Fᵀ/α + 1/β), from the spectrum of F (Bishop 2006, 3.86).

    `z` (k,) are the coordinates of y along the left singular vectors of F, `variance` (k,) the
    squares of its singular values, `square` = y·y, `n` rows, `hidden` columns.
    """
    ratio = alpha / beta
    length = (variance * z**2 / (variance + ratio) ** 2).sum()
    residual = ((ratio * z / (variance + ratio)) ** 2).sum() + max(square - z @ z, 0.0)
    determinant = np.log(alpha + beta * variance).sum() + (hidden - len(z)) * np.log(alpha)
    return float(
        hidden / 2 * np.log(alpha) + n / 2 * np.log(beta / (2 * np.pi))
        - beta / 2 * residual - alpha / 2 * length - determinant / 2
    )  # fmt: skip


def knn_accuracy(features: np.ndarray, labels: np.ndarray, *, neighbours: int = 5) -> float:
    """Share of rows whose label most of the `neighbours` nearest other rows have, by cosine.

    Leave one out: a row is no neighbour of itself. Of equally frequent labels the lowest number
    answers, as in scikit-learn.

    >>> knn_accuracy(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]]), np.array([0, 0, 1, 1]),
    ...              neighbours=1)
    1.0
    """
    x = np.asarray(features, np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    near = x @ x.T
    np.fill_diagonal(near, -np.inf)
    k = min(neighbours, len(x) - 1)
    votes = labels[np.argsort(-near, axis=1, kind="stable")[:, :k]]
    counts = np.stack([(votes == c).sum(1) for c in range(int(labels.max()) + 1)], axis=1)
    return float((counts.argmax(1) == labels).mean())


def probe_accuracy(
    features: np.ndarray, labels: np.ndarray, *, folds: int = 5, seed: int = 0
) -> float:
    """Accuracy of logistic regression on standardised features, cross-validated over `folds`.

    Each row is judged once, by a fit that has not seen it. The penalty is strong (C = 0.01), as
    suits a few hundred rows of as many features.

    >>> probe_accuracy(np.repeat(np.eye(2), 50, axis=0), np.repeat([0, 1], 50))
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    parts = KFold(min(folds, len(labels)), shuffle=True, random_state=seed)
    return float((cross_val_predict(fit, features, labels, cv=parts) == labels).mean())
