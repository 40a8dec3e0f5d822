"""Two mistakes that make a causal model's loss fall, and its texts nonsense.

Functions marked WRONG hold the mistake, as it stands in many scripts. Chapter 04 shows them, trains
with them and lets the doctor name them; nothing else may import them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from cookbook.training import from_parts
from cookbook.training.stacking import IGNORE

Batch = dict[str, torch.Tensor]


def shifting(collate: Callable[[Sequence[Any]], Batch]) -> Callable[[Sequence[Any]], Batch]:
    """WRONG for a model that shifts the labels itself: the next tokens as labels.

    The position t of `labels` holds token t + 1; the model compares its logits at t - 1 with it, so
    it learns to skip a token.

    >>> wrong = shifting(lambda rows: {"labels": torch.tensor(rows)})
    >>> wrong([[4, 5, 6]])["labels"].tolist()
    [[5, 6, -100]]
    """

    def collate_shifted(rows: Sequence[Any]) -> Batch:
        batch = collate(rows)
        labels = nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE)
        return {**batch, "labels": labels}

    collate_shifted.ahead = getattr(collate, "ahead", 0)
    return collate_shifted


def reader_that_writes(name: str) -> Any:
    """WRONG: a BERT as a language model, without a word about `is_decoder`.

    `transformers` gives it the loss of a decoder and not the mask of one, and mentions that in a
    log: each position sees the token that it is to predict.
    """
    return from_parts.decoder(name, is_decoder=False)
