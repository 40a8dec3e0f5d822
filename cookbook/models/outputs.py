"""What the models written here return: the loss first, as `transformers` and its `Trainer` do.

>>> Output(None, "scores").logits
'scores'
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Output(NamedTuple):
    """`loss` (a scalar, None without labels), `logits`, and what else a model has to say."""

    loss: Tensor | None
    logits: Any
    extra: Any = None


def next_token_loss(logits: Tensor, labels: Tensor | None) -> Tensor | None:
    """Cross-entropy of token t+1 from the scores at t, in nats; None without labels.

    `logits` (batch, T, vocabulary), `labels` (batch, T), not shifted, -100 where nothing is to be
    predicted.
    """
    if labels is None:
        return None
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
