"""A task that one attention head can learn in seconds, or cannot when its scores are not scaled.

Does: gives a head random symbols and trains it to look, from each, at its partner. Does not: teach
a training loop (`training.loop` does), or more than one head.
Used by chapter 02: the variance of the scores becomes a matter of learning or not learning.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cookbook.maths.attention import scaled_dot_product_attention
from cookbook.maths.losses import mean_squared_error


class Lookup(NamedTuple):
    """What a run left: its losses by step, the share of symbols that found their partner, slopes.

    `slopes` are the mean of `1 - sum_i w_i ** 2` by step: what the softmax lets through of a
    gradient (see `attention_statistics.score_statistics`).
    """

    losses: list[tuple[int, float]]
    slopes: list[tuple[int, float]]
    accuracy: float


def learn_lookup(
    width: int,
    *,
    scaled: bool,
    symbols: int = 64,
    steps: int = 150,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Lookup:
    """Train queries and keys of one head of `width` columns until each symbol looks at its partner.

    Symbols are random vectors of variance 1, their partners a random permutation. The head reads
    one-hot values; the loss is the squared distance of what it reads to the partner's value, a mean
    over symbols: 1 - 1/symbols for a head that looks everywhere alike, 2 for one that looks at a
    single wrong key, 0 for the right one. Adam; queries and keys start with variance 1.

    >>> learn_lookup(32, scaled=True, symbols=4, steps=100).accuracy
    1.0
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(symbols, width, generator=generator)
    partners = torch.randperm(symbols, generator=generator)
    query, key = (_projection(width, generator) for _ in range(2))
    optimizer = torch.optim.Adam([query, key], learning_rate)
    values, scale = torch.eye(symbols), None if scaled else 1.0
    losses, slopes = [], []
    for step in range(steps):
        found, weights = scaled_dot_product_attention(x @ query, x @ key, values, scale=scale)
        loss = mean_squared_error(found, values[partners], reduction="sum") / symbols
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((step, float(loss.detach())))
        slopes.append((step, float(1 - weights.detach().square().sum(-1).mean())))
    right = weights.argmax(-1) == partners
    return Lookup(losses, slopes, float(right.float().mean()))


def _projection(width: int, generator: torch.Generator) -> Tensor:
    """(width, width): keeps the variance of what it is multiplied with."""
    return nn.Parameter(torch.randn(width, width, generator=generator) / width**0.5)
