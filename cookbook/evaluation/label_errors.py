"""Rows that are probably labelled wrongly: confident learning, on probabilities out of sample.

Does: out-of-fold probabilities of a quick text classifier, the confident joint, the list of rows to
look at, worst first. Does not: change a label. Equal to `cleanlab`. Used by chapter 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def out_of_fold(
    texts: Sequence[str], labels: Sequence[int], *, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Probabilities (rows, classes) that a TF-IDF classifier gives to rows it was not trained on.

    A model has learnt the wrong labels of its own training rows by heart: only a model that has not
    seen a row can contradict its label. `labels` are 0 to classes - 1, each at least `folds` times;
    raises ValueError otherwise.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    rarest = int(np.bincount(np.asarray(labels)).min())
    if rarest < folds:
        raise ValueError(f"a class has {rarest} rows, fewer than {folds} folds: use fewer folds")
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2), token_pattern=r"\w+")
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return cross_val_predict(model, list(texts), labels, cv=parts, method="predict_proba")


def thresholds(probabilities: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """How sure a model usually is of a class: its mean probability over the rows labelled so.

        t_k = mean over { i : label_i = k } of p_ik

    Shapes (rows, classes), (rows,) -> (classes,).

    >>> thresholds(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]), [0, 0, 1]).tolist()
    [0.8, 0.8]
    """
    given, truth = np.asarray(probabilities, float), np.asarray(labels)
    missing = sorted(set(range(given.shape[1])) - set(truth.tolist()))
    if missing:
        raise ValueError(f"class {missing[0]} has no row: give it one, or drop its column")
    return np.array([given[truth == k, k].mean() for k in range(given.shape[1])])


def confident_class(probabilities: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """The class that each row confidently belongs to, or -1: (rows,).

    Confident is a probability of at least the class's threshold; of several such classes, the
    likeliest. Source: Northcutt, Jiang and Chuang 2021, arXiv:1911.00068, equation 1; of several,
    `cleanlab` takes the likeliest of all classes, even one that is not confident itself.

    >>> confident_class(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]), [0, 0, 1]).tolist()
    [0, -1, 1]
    """
    given = np.asarray(probabilities, float)
    sure = given >= thresholds(given, labels) - 1e-6  # as cleanlab, against rounding
    return np.where(sure.any(1), np.where(sure, given, -1).argmax(1), -1)


def suspects(probabilities: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Rows that confidently belong to another class than their label, the surest first.

    A row whose label is the likeliest class all the same is none. Sorted by self-confidence, the
    probability of the row's own label, from the lowest. Equal to
    `cleanlab.filter.find_label_issues(filter_by="confident_learning")` but for the rows on which
    `confident_class` differs.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.05, 0.95], [0.1, 0.9], [0.2, 0.8]])
    >>> suspects(p, [0, 0, 0, 1, 1]).tolist()
    [2]
    """
    given, truth = np.asarray(probabilities, float), np.asarray(labels)
    found = confident_class(given, truth)
    other = (found >= 0) & (found != truth) & (given.argmax(1) != truth)
    rows = np.flatnonzero(other)
    return rows[np.argsort(given[rows, truth[rows]], kind="stable")]
