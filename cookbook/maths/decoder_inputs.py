"""What a decoder reads while it is trained: its targets, one place to the right; and its loss.

Formulas for chapter 15, equal to the library's, which models apply by themselves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100


def shift_right(labels: Tensor, start: int, padding: int) -> Tensor:
    """Decoder inputs for `labels`, (batch, length) int64 both: `start`, then all but the last.

    So position t reads y_1 ... y_{t-1} and is asked for y_t. -100, which no embedding has, becomes
    `padding`. Equal to `shift_tokens_right` of BART and `_shift_right` of T5.

    >>> shift_right(torch.tensor([[7, 8, 3, -100]]), start=0, padding=0).tolist()
    [[0, 7, 8, 3]]
    """
    moved = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)
    return moved.masked_fill(moved == IGNORE, padding)


def span_loss(start: Tensor, end: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Mean of two cross-entropies over positions: where an answer begins, and where it ends.

        L = ½ (-log softmax(start)[s] - log softmax(end)[e])

    Logits (batch, length), positions (batch,) int64; position 0, [CLS], says "not here". Equal to
    the loss of `BertForQuestionAnswering`. Devlin et al. 2019, section 4.2.

    >>> round(span_loss(*torch.zeros(2, 1, 4), *torch.tensor([[1], [2]])).item(), 4)  # ln 4
    1.3863
    """
    return (F.cross_entropy(start, starts) + F.cross_entropy(end, ends)) / 2
