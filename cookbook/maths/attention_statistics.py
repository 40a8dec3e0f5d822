"""What attention weights look like in numbers: how wide they spread, and where heads look.

Does: entropy, the statistics of random scores as heads get wider, each head's share on itself, its
neighbours and the ends. Does not: explain a model's answers; weights show where a head reads, not
what the reading is for.
Used by chapter 02.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cookbook.maths.attention import softmax


def entropy(weights: Tensor) -> Tensor:
    """Entropy in nats of distributions in the last dimension: 0 for one key, ln n for n evenly.

    `exp(entropy)` reads as a number of keys. Shape (..., S) -> (...). Equal to the sum of
    `torch.special.entr`.

    >>> round(float(entropy(torch.tensor([0.5, 0.5, 0.0]))), 4)
    0.6931
    """
    smallest = torch.finfo(weights.dtype).tiny  # 0 log 0 = 0
    return -(weights * weights.clamp(min=smallest).log()).sum(-1)


def score_statistics(
    width: int, *, scaled: bool, keys: int = 64, queries: int = 512, seed: int = 0
) -> dict[str, float]:
    """Scores and softmax of random queries and keys, independent with variance 1, `width` columns.

    "variance": of the scores, without unit; "entropy": of the weights, nats; "largest": mean of the
    largest weight; "slope": mean over queries of `sum_i d w_i / d score_i = 1 - sum_i w_i ** 2`,
    what is left of a gradient that has to pass the softmax. Source: Vaswani et al., 2017, footnote
    4.

    >>> round(score_statistics(256, scaled=True)["variance"], 1)
    1.0
    """
    generator = torch.Generator().manual_seed(seed)
    query, key = (torch.randn(n, width, generator=generator) for n in (queries, keys))
    scores = query @ key.T / (width**0.5 if scaled else 1)
    weights = softmax(scores)
    return {
        "variance": float(scores.var()),
        "entropy": float(entropy(weights).mean()),
        "largest": float(weights.amax(-1).mean()),
        "slope": float(1 - weights.square().sum(-1).mean()),
    }


def head_shares(weights: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
    """Where each head looks: mean weight on some places, over the queries that are tokens.

    `weights` (batch, layers, heads, T, T), `attention_mask` (batch, T), padding on the right. Each
    value has the shape (layers, heads): "itself", "previous", "next", "first" and "last" token of
    the row ([CLS] and [SEP] in BERT), and "keys", the number of keys as exp(entropy). A row's first
    token has no previous one and counts 0 there, its last no next one.

    >>> shares = head_shares(torch.eye(3).view(1, 1, 1, 3, 3), torch.ones(1, 3))
    >>> float(shares["itself"]), float(shares["previous"]), float(shares["keys"])
    (1.0, 0.0, 1.0)
    """
    last = attention_mask.long().sum(-1) - 1
    picked = last[:, None, None, None, None].expand(*weights.shape[:-1], 1)
    looks = {
        "itself": weights.diagonal(0, -2, -1),
        "previous": _padded(weights.diagonal(-1, -2, -1), (1, 0)),
        "next": _padded(weights.diagonal(1, -2, -1), (0, 1)),
        "first": weights[..., 0],
        "last": weights.gather(-1, picked).squeeze(-1),
        "keys": entropy(weights).exp(),
    }
    real = attention_mask[:, None, None, :].to(weights.dtype)
    return {name: (look * real).sum((0, -1)) / real.sum() for name, look in looks.items()}


def habits(shares: dict[str, Tensor], *, least: float = 0.5) -> dict[tuple[int, int], str]:
    """`{(layer, head): "previous 98 %"}` for the heads with at least that share on one place.

    `shares` as `head_shares` gives them; layers and heads count from 0. Heads that spread their
    weight are left out.

    >>> habits({"itself": torch.tensor([[0.1, 0.9]]), "keys": torch.tensor([[9.0, 1.4]])})
    {(0, 1): 'itself 90 %'}
    """
    places = [name for name in shares if name != "keys"]
    best = torch.stack([shares[name] for name in places]).max(0)
    found = (best.values >= least).nonzero().tolist()
    return {
        (layer, head): f"{places[best.indices[layer, head]]} {100 * best.values[layer, head]:.0f} %"
        for layer, head in found
    }


def _padded(diagonal: Tensor, sides: tuple[int, int]) -> Tensor:
    return torch.nn.functional.pad(diagonal, sides)
