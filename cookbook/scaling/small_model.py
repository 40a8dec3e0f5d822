"""A small masked language model in plain layers, for ranks that must start in a second.

Pre-norm blocks; the number of heads is read off the width of the projections, so that a rank which
holds half of them computes half of the heads. Tokens see all others of their row. It imports
no transformers; chapter 11 cuts it across ranks, shards it and crashes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); (batch, length, width) both ways."""

    def __init__(self, width: int, head: int = 16) -> None:
        super().__init__()
        self.head = head
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        # A bias of the keys adds the same to all scores of a query and changes nothing. Its
        # gradient is rounding noise, of which Adam makes full steps: two runs would differ in it.
        self.key = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.norm1(x)
        # -1: as many heads as this rank holds.
        q, k, v = (f(y).unflatten(-1, (-1, self.head)).transpose(1, 2)
                   for f in (self.query, self.key, self.value))  # fmt: skip
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).flatten(-2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class SmallLM(nn.Module):
    """Token ids (batch, length) to logits (batch, length, vocab); output tied to the embedding.

    >>> SmallLM(50, width=32)(torch.zeros(2, 7, dtype=torch.long)).shape
    torch.Size([2, 7, 50])
    """

    def __init__(
        self, vocab: int, *, width: int = 32, layers: int = 2, length: int = 128, dropout: float = 0
    ) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(vocab, width), nn.Embedding(length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.bias = nn.LayerNorm(width), nn.Parameter(torch.zeros(vocab))
        for embedding in (self.embed, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Tensor
    ) -> Tensor:
        """`attention_mask` is (batch, length), 0 at padding, or (batch, 1, length, length) as
        `scaled_dot_product_attention` takes it."""
        x = self.embed(input_ids) + self.positions.weight[: input_ids.shape[1]]
        mask = attention_mask
        if mask is not None:
            mask = mask if mask.dim() == 4 else mask[:, None, None, :].bool()
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x) @ self.embed.weight.T + self.bias
