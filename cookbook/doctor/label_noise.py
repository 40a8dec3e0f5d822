"""D3: are many labels wrong? From probabilities that a model gave to rows it was not trained on.

Confident learning (Northcutt et al. 2021) counts the rows that a model puts into another class as
surely as it usually is about that class's own rows. That alone is no noise: a weak model confuses
similar classes, too, but then in both directions. Labels that were given wrongly go one way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cookbook.doctor.findings import Finding

SHARE = 0.05  # of the rows that are confidently in another class
ONE_WAY, SURE = 2.0, 4.0  # times as many one way as back, and standard deviations
UNSURE = 0.4  # share from which on it is the model that knows nothing
ROWS = 100  # fewer tell nothing


def confident_joint(probabilities: Any, labels: Any) -> np.ndarray:
    """Rows by their label and by the class that they confidently belong to: (classes, classes).

    `probabilities` (rows, classes) are out-of-sample, `labels` (rows,) are 0 to classes - 1. A row
    belongs confidently to a class if its probability is at least the mean that this class's own
    rows get; of several such classes to the likeliest; of none, to none.
    Source: Northcutt, Jiang and Chuang, Confident Learning, JAIR 2021, equation 1.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.95], [0.2, 0.8]])
    >>> confident_joint(p, [0, 0, 1, 1, 0]).tolist()
    [[2, 0], [0, 1]]
    """
    given, y = np.asarray(probabilities, float), np.asarray(labels)
    count = given.shape[1]
    usual = np.array([
        given[y == k, k].mean() if (y == k).any() else np.inf for k in range(count)
    ])  # fmt: skip
    sure = given >= usual
    best = np.where(sure, given, -1.0).argmax(1)
    joint = np.zeros((count, count), int)
    some = sure.any(1)
    np.add.at(joint, (y[some], best[some]), 1)
    return joint


def label_noise(probabilities: Any, labels: Any) -> Finding | None:
    """D3 if at least 5 % of the labels are confidently others' and the confusion goes one way.

    `probabilities` (rows, classes) must come from models that did not see the rows (by cross
    validation, say); `labels` (rows,) are the given ones. None if there is no such sign, or fewer
    than 100 rows.

    >>> label_noise(np.eye(2)[[0, 1] * 60], [0, 1] * 60) is None
    True
    """
    given, y = np.asarray(probabilities, float), np.asarray(labels)
    if len(y) < ROWS or given.ndim != 2 or not np.isfinite(given).all():
        return None
    joint = confident_joint(given, y)
    off = joint - np.diag(np.diag(joint))
    share = off.sum() / max(1, joint.sum())
    one_way = _one_way(off)
    if not SHARE <= share <= UNSURE or one_way is None:
        return None
    label, other = one_way
    return Finding(
        "D3", "warn",
        f"{share:.0%} of the labels are confidently another class's (bound: {SHARE:.0%}), and not "
        f"both ways: {off[label, other]:,} rows labelled {label} look like {other}, "
        f"{off[other, label]:,} the other way round",
        measured={"share": float(share), "label": label, "looks_like": other,
                  "rows": int(off[label, other]), "rows_back": int(off[other, label])},
    )  # fmt: skip


def _one_way(off: np.ndarray) -> tuple[int, int] | None:
    """The pair of classes with the surest surplus in one direction; None without one.

    Surplus as a share of the rows that the pair has among all disagreements: of a pair that hardly
    counts nothing follows.
    """
    surplus, both = off - off.T, off + off.T
    score = surplus / np.sqrt(np.maximum(both, 1))
    label, other = (int(i) for i in np.unravel_index(score.argmax(), score.shape))
    clear = off[label, other] >= ONE_WAY * max(1, off[other, label])
    weighs = both[label, other] >= 0.1 * off.sum()
    return (label, other) if clear and weighs and score[label, other] >= SURE else None
