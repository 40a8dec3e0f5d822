"""Is the right document near the top: ranks, recall at k, mean reciprocal rank, blended scores.

Does: turn scores of queries against documents into ranks and summaries, with one right document a
query. Does not: make the scores (`lexical` does by words, `training.contrastive` by meaning), nor
handle several right documents. Used by chapter 05 and `cookbook search`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK = 512  # queries scored at a time: a block against 100,000 documents takes 200 MB


def ranks(scores: np.ndarray, targets: Sequence[int] | None = None) -> np.ndarray:
    """Rank of each query's right document among all, 1 is best: (n, m) -> (n,) float64.

    `targets` (n,) names the right document, by default document i for query i. Among equal scores
    it is the mean place: a model that says the same of everything gets (m + 1) / 2, not 1, which
    counting only the better ones would give. A score of nan ranks last. Raises ValueError for
    shapes that do not fit.

    >>> ranks(np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.5]])).tolist()
    [1.0, 2.0]
    """
    scores = np.asarray(scores)
    targets = np.arange(len(scores)) if targets is None else np.asarray(targets)
    if scores.ndim != 2 or targets.shape != scores.shape[:1] or np.any(targets >= scores.shape[1]):
        raise ValueError(f"scores {scores.shape} need one target a row, found {targets.shape}")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = scores[np.arange(len(scores)), targets][:, None]
    return 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def ranks_by_cosine(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """`ranks` of unit vectors (n, d) against (m, d), document i right for query i, in blocks."""
    blocks = [
        ranks(queries[i : i + BLOCK] @ documents.T, np.arange(i, min(i + BLOCK, len(queries))))
        for i in range(0, len(queries), BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0)


def recall_at(found: np.ndarray, k: int) -> float:
    """Share of queries whose right document is among the first `k`, between 0 and 1.

    >>> recall_at(np.array([1, 3, 12]), 10)
    0.6666666666666666
    """
    return float(np.mean(np.asarray(found) <= k))


def mean_reciprocal_rank(found: np.ndarray) -> float:
    """Mean of 1 / rank: 1 if always first, 0.5 if always second.

    >>> mean_reciprocal_rank(np.array([1, 2]))
    0.75
    """
    return float(np.mean(1 / np.asarray(found, dtype=float)))


def summary(found: np.ndarray) -> dict[str, float]:
    """Recall at 1 and 10, and MRR.

    >>> summary(np.array([1, 4]))
    {'recall@1': 0.5, 'recall@10': 1.0, 'MRR': 0.625}
    """
    figures = {f"recall@{k}": recall_at(found, k) for k in (1, 10)}
    return figures | {"MRR": mean_reciprocal_rank(found)}


def blend(*scores: np.ndarray) -> np.ndarray:
    """One score from several, (…, m) each: their mean, once each is scaled to 0 … 1 along the row.

    The scale makes BM25 and cosines comparable. A row that says the same of everything counts 0.
    Convex combination of min-max scores: Bruch, Gai and Ingber 2022, arXiv:2210.11934.

    >>> blend(np.array([3.0, 1.0, 2.0]), np.array([0.1, 0.3, 0.2])).tolist()
    [0.5, 0.5, 0.5]
    """
    scaled = []
    for one in map(np.asarray, scores):
        low = one.min(-1, keepdims=True)
        spread = one.max(-1, keepdims=True) - low
        scaled.append((one - low) / np.where(spread > 0, spread, 1))
    return np.mean(scaled, axis=0)
