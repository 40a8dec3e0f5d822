"""The blocks that every transformer is stacked from: LayerNorm, GELU, encoder and decoder block.

Does: the encoder block (BERT, and with a causal mask GPT) and the decoder block with
cross-attention (the 2017 transformer, BART), the norm after the residual sum, as in 2017, or before
the sublayer, as in most models since. Does not: dropout, gated or expert layers, RMSNorm.
Used by chapter 02; `pouring` fills the blocks with a library's weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cookbook.maths.attention import MultiHeadAttention

Activation = Callable[[Tensor], Tensor]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Each row to mean 0 and variance 1, then `weight * x + bias`. Shape (..., width) is kept.

    The variance divides by the width, not by width - 1. Equal to `torch.nn.functional.layer_norm`;
    Ba et al., 2016, arXiv:1607.06450.

    >>> layer_norm(torch.tensor([1.0, 3.0]), torch.ones(2), torch.zeros(2), eps=0.0).tolist()
    [-1.0, 1.0]
    """
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return weight * centred / (variance + eps).sqrt() + bias


def relu(x: Tensor) -> Tensor:
    """`max(x, 0)`, the activation of the first transformer. Equal to `torch.relu`."""
    return torch.where(x <= 0, 0, x)  # not clamp, whose slope at 0 is 1


def gelu(x: Tensor) -> Tensor:
    """`x * P(z < x)` for a normal z: a ReLU without the corner, as in BERT.

    Equal to `torch.nn.functional.gelu`; Hendrycks and Gimpel, 2016, arXiv:1606.08415.

    >>> gelu(torch.tensor([0.0, 10.0])).tolist()
    [0.0, 10.0]
    """
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: Tensor) -> Tensor:
    """The approximation of `gelu` that GPT-2 was trained with; off by at most 5e-4.

    Equal to `torch.nn.functional.gelu(approximate="tanh")`.

    >>> bool(abs(gelu_tanh(torch.tensor(1.0)) - gelu(torch.tensor(1.0))) < 5e-4)
    True
    """
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


class LayerNorm(nn.Module):
    """`layer_norm` with its weight (ones at first) and bias (zeros)."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return layer_norm(x, self.weight, self.bias, self.eps)


class FeedForward(nn.Module):
    """width -> hidden -> width with an activation between, at every position alone."""

    def __init__(self, width: int, hidden: int, activation: Activation):
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.down(self.activation(self.up(x)))


class EncoderBlock(nn.Module):
    """Self-attention, then the feed-forward layer, each with a residual sum and a LayerNorm.

    `norm_first=False` is `norm(x + f(x))`, BERT's; `norm_first=True` is `x + f(norm(x))`, GPT-2's:
    the sum from block to block then stays untouched, and deep stacks train without a warm-up (Xiong
    et al., 2020, arXiv:2002.04745). With `causal=True` it is the block of a decoder-only model.
    Equal to `torch.nn.TransformerEncoderLayer(batch_first=True)` without dropout.

    >>> torch.manual_seed(0) and None
    >>> x, weights = EncoderBlock(8, heads=2, hidden=16)(torch.randn(1, 3, 8), causal=True)
    >>> tuple(x.shape), weights[0, 0, 0, 1].item()  # the first token does not see the second
    ((1, 3, 8), 0.0)
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        norm_first: bool = False,
        activation: Activation = gelu,
        eps: float = 1e-5,
        rotary: bool = False,
    ):
        super().__init__()
        self.attention = MultiHeadAttention(width, heads, rotary=rotary)
        self.feed_forward = FeedForward(width, hidden, activation)
        self.norm1, self.norm2 = LayerNorm(width, eps), LayerNorm(width, eps)
        self.norm_first = norm_first

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False
    ) -> tuple[Tensor, Tensor]:
        """x (..., T, width) -> the same shape, and the weights (..., heads, T, T)."""
        if self.norm_first:
            seen, weights = self.attention(self.norm1(x), mask=mask, causal=causal)
            x = x + seen
            return x + self.feed_forward(self.norm2(x)), weights
        seen, weights = self.attention(x, mask=mask, causal=causal)
        x = self.norm1(x + seen)
        return self.norm2(x + self.feed_forward(x)), weights


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention to an encoder's output, and the feed-forward layer.

    Queries of the cross-attention come from the decoder, keys and values from `memory`: every
    position of the output may look at the whole source. Norms as in `EncoderBlock`. Equal to
    `torch.nn.TransformerDecoderLayer(batch_first=True)` without dropout, under a causal mask.

    >>> torch.manual_seed(0) and None
    >>> block, memory = DecoderBlock(8, heads=2, hidden=16), torch.randn(1, 5, 8)
    >>> x, weights = block(torch.randn(1, 3, 8), memory)
    >>> tuple(x.shape), tuple(weights.shape)
    ((1, 3, 8), (1, 2, 3, 5))
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        norm_first: bool = False,
        activation: Activation = gelu,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.attention, self.cross_attention = (MultiHeadAttention(width, heads) for _ in range(2))
        self.feed_forward = FeedForward(width, hidden, activation)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(width, eps) for _ in range(3))
        self.norm_first = norm_first

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        *,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        causal: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """x (..., T, width), memory (..., S, width) -> like x, cross weights (..., heads, T, S)."""
        if self.norm_first:
            x = x + self.attention(self.norm1(x), mask=mask, causal=causal)[0]
            seen, weights = self.cross_attention(self.norm2(x), memory, mask=memory_mask)
            x = x + seen
            return x + self.feed_forward(self.norm3(x)), weights
        x = self.norm1(x + self.attention(x, mask=mask, causal=causal)[0])
        seen, weights = self.cross_attention(x, memory, mask=memory_mask)
        x = self.norm2(x + seen)
        return self.norm3(x + self.feed_forward(x)), weights
