"""A BERT and a GPT-2 stacked from our own blocks: what is left when nothing is hidden.

Does: the two forward passes, with the attention weights of every layer. Does not: losses, caches,
generation or sensible initial weights: `pouring` fills them from a `transformers` model, whose
logits they then give.
Used by chapter 02.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cookbook.maths.attention import padding_mask
from cookbook.maths.blocks import EncoderBlock, LayerNorm, gelu, gelu_tanh
from cookbook.maths.positions import LearnedPositions


class Bert(nn.Module):
    """A masked language model: embeddings, encoder blocks with the norm last, a head.

    Devlin et al., 2019, arXiv:1810.04805. The head is one more layer with its own norm before the
    product with the vocabulary.

    >>> model = Bert(vocab_size=11, width=8, layers=2, heads=2, hidden=16, length=4)
    >>> logits, weights = model(torch.tensor([[1, 5, 2]]))
    >>> tuple(logits.shape), tuple(weights.shape)
    ((1, 3, 11), (1, 2, 2, 3, 3))
    """

    def __init__(
        self, vocab_size: int, width: int, layers: int, heads: int, hidden: int, length: int,
        *, eps: float = 1e-12, segments: int = 2,
    ):  # fmt: skip
        super().__init__()
        self.tokens, self.segments = nn.Embedding(vocab_size, width), nn.Embedding(segments, width)
        self.positions, self.norm = LearnedPositions(length, width), LayerNorm(width, eps)
        self.blocks = nn.ModuleList(
            EncoderBlock(width, heads, hidden, activation=gelu, eps=eps) for _ in range(layers)
        )
        self.dense, self.head_norm = nn.Linear(width, width), LayerNorm(width, eps)
        self.logits = nn.Linear(width, vocab_size)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """(batch, T) ids -> logits (batch, T, vocabulary), weights (batch, layers, heads, T, T)."""
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = self.norm(self.positions(self.tokens(input_ids) + self.segments(segments)))
        mask = None if attention_mask is None else padding_mask(attention_mask)
        weights = []
        for block in self.blocks:
            x, seen = block(x, mask=mask)
            weights.append(seen)
        return self.logits(self.head_norm(gelu(self.dense(x)))), torch.stack(weights, 1)


class Gpt2(nn.Module):
    """A causal language model: the same blocks with the norm first and the future hidden.

    Radford et al., 2019, "Language Models are Unsupervised Multitask Learners". The logits are
    products with the token embeddings themselves; there is no second matrix.

    >>> model = Gpt2(vocab_size=11, width=8, layers=2, heads=2, hidden=16, length=4)
    >>> logits, weights = model(torch.tensor([[1, 5, 2]]))
    >>> tuple(logits.shape), weights[..., 0, 1:].sum().item()  # nobody looks ahead
    ((1, 3, 11), 0.0)
    """

    def __init__(
        self, vocab_size: int, width: int, layers: int, heads: int, hidden: int, length: int,
        *, eps: float = 1e-5,
    ):  # fmt: skip
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = LearnedPositions(length, width)
        settings = {"norm_first": True, "activation": gelu_tanh, "eps": eps}
        self.blocks = nn.ModuleList(
            EncoderBlock(width, heads, hidden, **settings) for _ in range(layers)
        )
        self.norm = LayerNorm(width, eps)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(batch, T) ids -> logits (batch, T, vocabulary), weights (batch, layers, heads, T, T)."""
        x = self.positions(self.tokens(input_ids))
        mask = None if attention_mask is None else padding_mask(attention_mask)
        weights = []
        for block in self.blocks:
            x, seen = block(x, mask=mask, causal=True)
            weights.append(seen)
        return self.norm(x) @ self.tokens.weight.T, torch.stack(weights, 1)
