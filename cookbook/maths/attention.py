"""Attention by hand: softmax, scaled dot products, masks, several heads.

Does: one matrix product after the other, so that every step can be shown, and returns the weights
beside the output. Values and gradients equal torch's. Does not: dropout, fused or blockwise
kernels, a cache of keys; the library's version is faster and needs less memory, and is what the
later chapters train with.
Used by chapter 02, and by `blocks`, which builds layers from it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cookbook.maths import positions


def softmax(scores: Tensor, dim: int = -1) -> Tensor:
    """Weights that are positive and sum to 1: `exp(x - m) / sum(exp(x - m))`, m the largest score.

    Without m, fp32 overflows at a score of 89. A row of nothing but `-inf`, a query that may look
    nowhere, gives zeros, as torch's attention does; `torch.softmax` gives nan there and agrees
    everywhere else. Shape is kept.

    >>> softmax(torch.tensor([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    largest = scores.detach().amax(dim, keepdim=True)
    lowest = torch.finfo(scores.dtype).min  # -inf minus -inf would be nan
    exponentials = (scores - largest.clamp(min=lowest)).exp()
    # the largest exponential is 1, so only a row without any has a smaller sum
    return exponentials / exponentials.sum(dim, keepdim=True).clamp(min=1)


def causal_mask(queries: int, keys: int | None = None, *, device: object = None) -> Tensor:
    """(queries, keys), bool: query i may look at the keys 0..i. True means "may look".

    Both count from 0, as in `torch.nn.functional.scaled_dot_product_attention(is_causal=True)`.
    A decoder that keeps the keys of earlier tokens in a cache needs the last rows of a larger mask.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(queries, keys or queries, dtype=torch.bool, device=device).tril()


def padding_mask(attention_mask: Tensor) -> Tensor:
    """(batch, 1, 1, length), bool, from a tokenizer's 1 = token, 0 = padding (batch, length).

    The two dimensions of size 1 stand for the heads and the queries: no head of no query may look
    at padding.

    >>> padding_mask(torch.tensor([[1, 1, 0]])).tolist()
    [[[[True, True, False]]]]
    """
    return attention_mask.bool()[:, None, None, :]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`softmax(query @ key.T / sqrt(d_k) + mask) @ value`, and the weights.

    `query` (..., T, d_k), `key` (..., S, d_k), `value` (..., S, d_v); output (..., T, d_v), weights
    (..., T, S). `mask` broadcasts to the weights: bool, True where a query may look (the opposite
    of the masks of `torch.nn.MultiheadAttention`), or floats that are added to the scores. `causal`
    forbids the keys after the query's own place, beside the mask. `scale` replaces 1/sqrt(d_k).

    Raises ValueError for a mask of integers: added as they are, a tokenizer's 0 and 1 would hide
    nothing. Equal to `torch.nn.functional.scaled_dot_product_attention`; Vaswani et al., 2017,
    "Attention Is All You Need", section 3.2.1.

    >>> query, key = torch.tensor([[4.0]]), torch.tensor([[0.0], [1.0]])
    >>> output, weights = scaled_dot_product_attention(query, key, torch.tensor([[1.0], [2.0]]))
    >>> [round(w, 3) for w in weights[0].tolist()], round(float(output), 3)  # 4 nats apart
    ([0.018, 0.982], 1.982)
    """
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        allowed = causal_mask(*scores.shape[-2:], device=scores.device)
        scores = scores.masked_fill(~allowed, -torch.inf)
    weights = softmax(scores if mask is None else _masked(scores, mask))
    return weights @ value, weights


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    if mask.is_floating_point():
        return scores + mask
    raise ValueError(
        f"a mask of {mask.dtype} is ambiguous: give bool (True = may look), or floats to be added"
    )


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own slice of `width / heads` columns.

    Queries come from x, keys and values from `memory`, or from x when there is none: self- and
    cross-attention are the same code. `rotary` turns queries and keys by their position. Equal to
    `torch.nn.MultiheadAttention(batch_first=True)`; Vaswani et al., 2017, section 3.2.2.

    >>> torch.manual_seed(0) and None
    >>> output, weights = MultiHeadAttention(8, heads=2)(torch.randn(1, 3, 8))
    >>> tuple(output.shape), tuple(weights.shape)
    ((1, 3, 8), (1, 2, 3, 3))
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True, rotary: bool = False):
        """Raises ValueError where the heads cannot share the width evenly."""
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads cannot share {width} columns: choose a divisor")
        self.heads, self.rotary = heads, rotary
        self.query, self.key, self.value, self.output = (
            nn.Linear(width, width, bias=bias) for _ in range(4)
        )

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """x (..., T, width), memory (..., S, width) -> like x, weights (..., heads, T, S)."""
        memory = x if memory is None else memory
        query, key = self._split(self.query(x)), self._split(self.key(memory))
        if self.rotary:
            query, key = positions.rotate(query), positions.rotate(key)
        heads, weights = scaled_dot_product_attention(
            query, key, self._split(self.value(memory)), mask, causal=causal
        )
        return self.output(heads.transpose(-3, -2).flatten(-2)), weights

    def _split(self, x: Tensor) -> Tensor:
        """(..., T, width) -> (..., heads, T, width / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
