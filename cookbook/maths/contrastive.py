"""Contrastive learning by hand: InfoNCE, its temperature and its gradient, and what it optimises.

Does: mean pooling, cosine similarities, InfoNCE (both ways, with hard negatives, with known
duplicates left out), its gradient with respect to the similarities and to the temperature,
alignment and uniformity. Does not: encode or train (`training.contrastive` does).
Used by chapter 05.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cookbook.maths.losses import cross_entropy, log_softmax, log_sum_exp


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of the tokens that `mask` (batch, length) keeps: (batch, length, d) -> (batch, d).

    Padding is multiplied by 0, so what stands there cannot matter. A row without a token gives 0.

    >>> mean_pool(torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., d) scaled to length 1. Equal to `torch.nn.functional.normalize`."""
    return vectors / vectors.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)


def cosines(queries: Tensor, keys: Tensor) -> Tensor:
    """Every query with every key: (n, d), (m, d) -> (n, m), between -1 and 1.

    >>> cosines(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])).tolist()
    [[1.0, 0.0]]
    """
    return unit(queries) @ unit(keys).T


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float | Tensor = 0.05,
    negatives: Tensor | None = None,
    groups: Tensor | None = None,
    symmetric: bool = False,
) -> Tensor:
    """InfoNCE in nats: find the key that belongs to each query among those of the batch.

    `queries` and `keys` are (n, d), row i of one belongs to row i of the other; every other row is
    a negative. With s the cosines and t the temperature,

        loss = mean_i( log sum_j exp(s_ij / t) - s_ii / t ),

    a cross-entropy over n classes whose logits are s / t and whose targets are 0 … n - 1. It starts
    near log n. `negatives` (m, d) are further candidates for all queries (hard negatives). `groups`
    (n,) integers: a row whose group is that of the query is no negative of it, because it says the
    same; its score becomes -inf. `symmetric` averages with the way back, keys to queries (CLIP).

    Raises ValueError for shapes that do not fit and for a temperature that is not positive.
    Sources: van den Oord et al. 2018, arXiv:1807.03748; Gao et al. 2021, arXiv:2104.08821,
    equations 1 and 5; Radford et al. 2021, arXiv:2103.00020, figure 3.

    >>> same = torch.ones(8, 4)  # all vectors alike: guessing among 8
    >>> round(float(info_nce(same, same)), 4), round(math.log(8), 4)
    (2.0794, 2.0794)
    """
    _check(queries, keys, temperature)
    logits = cosines(queries, keys) / temperature
    if groups is not None:  # after the division: a learned temperature has no gradient at -inf
        logits = logits.masked_fill(repeated(groups), -torch.inf)
    target = torch.arange(len(queries), device=logits.device)
    back = cross_entropy(logits.T, target) if symmetric else None
    if negatives is not None:
        logits = torch.cat([logits, cosines(queries, negatives) / temperature], 1)
    there = cross_entropy(logits, target)
    return there if back is None else (there + back) / 2


def repeated(groups: Tensor) -> Tensor:
    """(n,) -> (n, n) bool: another row of the same group, hence no negative.

    >>> repeated(torch.tensor([7, 3, 7])).int().tolist()
    [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    """
    same = groups.unsqueeze(0) == groups.unsqueeze(1)
    return same & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)


def gradient(scores: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Derivatives of InfoNCE by the cosines (n, n) and by the temperature (a scalar).

    With p_ij = softmax_j(s_ij / t):

        d loss / d s_ij = (p_ij - [i = j]) / (n t),
        d loss / d t    = mean_i( s_ii - sum_j p_ij s_ij ) / t².

    Each row sums to 0: as hard as the positive is pulled, the negatives together are pushed. The
    temperature only divides that push among them.

    >>> by_score, by_temperature = gradient(torch.eye(2), 1.0)
    >>> [[round(x, 3) for x in row] for row in by_score.tolist()], round(float(by_temperature), 3)
    ([[-0.134, 0.134], [0.134, -0.134]], 0.269)
    """
    probabilities = log_softmax(scores / temperature).exp()
    own = torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    margin = scores.diagonal() - (probabilities * scores).sum(1)
    by_score = (probabilities - own) / (len(scores) * temperature)
    return by_score, margin.mean() / temperature**2


def push(scores: Tensor, temperature: float) -> Tensor:
    """Of the push on all negatives of a query, the share of each: (m,) cosines -> (m,), sum 1.

    It is a softmax of s / t: a low temperature spends it all on the hardest negative, a high one
    spreads it evenly. Wang and Liu 2021, arXiv:2012.09740, section 3.2.

    >>> [round(share, 2) for share in push(torch.tensor([0.9, 0.5]), 0.1).tolist()]
    [0.98, 0.02]
    """
    return log_softmax(scores / temperature).exp()


def alignment(left: Tensor, right: Tensor) -> Tensor:
    """Mean squared distance of unit vectors that belong together, (n, d) each; 0 is best.

    Wang and Isola 2020, arXiv:2005.10242, equation 3 with alpha = 2.

    >>> float(alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])))
    2.0
    """
    return (unit(left) - unit(right)).square().sum(-1).mean()


def uniformity(vectors: Tensor) -> Tensor:
    """How evenly unit vectors (n, d) cover the sphere: `log mean exp(-2 |x - y|²)`, n at least 2.

    The mean goes over pairs of different rows. 0 where all vectors are one; the lower the more
    even, near -4 in many dimensions. Wang and Isola 2020, equation 4 with t = 2.

    >>> float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])))  # |x - y|² = 4
    -8.0
    """
    points = unit(vectors)
    # |x - y|² = 2 - 2 x·y for unit vectors; rounding could make it a hair negative
    squares = (2 - 2 * points @ points.T).clamp(min=0)
    row, column = torch.triu_indices(len(points), len(points), 1, device=points.device)
    pairs = -2 * squares[row, column]
    return log_sum_exp(pairs) - math.log(len(pairs))


def _check(queries: Tensor, keys: Tensor, temperature: float | Tensor) -> None:
    if queries.shape != keys.shape or queries.dim() != 2:
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} must both be "
            "(rows, dimensions), row i of one belonging to row i of the other"
        )
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be positive, such as 0.05")
