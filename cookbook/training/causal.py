"""Causal language modelling: predict each token from those before it.

Does: the loss by hand, at offset 1, and batches whose labels are the tokens themselves, because
causal models of `transformers` do the shifting. Packed documents can be kept apart. Does not:
generate (`evaluation.generation`), or evaluate long texts (`evaluation.sliding_window`).
Used by chapter 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cookbook.maths.losses import cross_entropy
from cookbook.training.stacking import HIDDEN, IGNORE, stack


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labels of `-ln p(x[t] | x[<t])`, in nats: a scalar.

    `logits` (batch, length, vocabulary) at position t answer for `labels` (batch, length) at t + 1;
    -100 is left out. Nothing predicts the first token, and nothing follows the last logits. Equal
    to the loss of `GPT2LMHeadModel`, which shifts the labels itself.

    >>> logits = torch.zeros(1, 3, 8)  # knows nothing: ln 8 a token
    >>> round(float(next_token_loss(logits, torch.tensor([[4, 5, 6]]))), 4)
    2.0794
    """
    return cross_entropy(logits[:, :-1], labels[:, 1:])


class CausalCollator:
    """Batches for a causal language model: `input_ids`, `attention_mask`, `labels`.

    `labels` are the ids, -100 on padding; the model shifts them. Rows that hold several documents
    (`pack(..., cross_documents=False)`) get a (batch, 1, length, length) float mask, to be added to
    the scores, under which a token sees the earlier ones of its own document; positions that count
    from the document's start; and no label for a document's first token, which would be asked of
    the document before.

    >>> batch = CausalCollator(pad_id=0)([{"input_ids": [4, 5]}, {"input_ids": [6]}])
    >>> batch["labels"].tolist(), batch["attention_mask"].tolist()
    ([[4, 5], [6, -100]], [[1, 1], [1, 0]])
    """

    ahead = 1  # the logits at t answer for the label at t + 1

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        ids = stack([row["input_ids"] for row in rows], self.pad_id)
        documents = stack([_documents(row) for row in rows], 0, ids.shape[1])
        labels = ids.masked_fill(documents == 0, IGNORE)
        batch = {"input_ids": ids, "attention_mask": (documents > 0).long(), "labels": labels}
        if documents.max() > 1:
            first = documents[:, 1:] != documents[:, :-1]
            labels[:, 1:][first] = IGNORE
            # Added to the scores: a boolean mask would be added too, as 0 and 1, by "eager".
            batch["attention_mask"] = torch.zeros(1).masked_fill(~own_past(documents), HIDDEN)
            batch["position_ids"] = stack([row["position_ids"] for row in rows], 0)
        return batch


def own_past(documents: torch.Tensor) -> torch.Tensor:
    """(batch, 1, length, length) bool: may query i see key j: same document, and not later.

    `documents` (batch, length) numbers documents from 1; 0 is padding, which sees itself only, for
    a row of the mask without a single true would be NaN in the softmax.

    >>> own_past(torch.tensor([[1, 1, 2]]))[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    length = documents.shape[1]
    same = documents[:, None, :, None] == documents[:, None, None, :]
    text = (documents > 0)[:, None, None, :]
    return (same & text).tril() | torch.eye(length, dtype=torch.bool)


def _documents(row: Mapping[str, Any]) -> np.ndarray:
    """Numbers of the documents in a row; one document where nothing is said."""
    found = row.get("document_ids", row.get("attention_mask"))
    return np.ones(len(row["input_ids"]), np.int64) if found is None else np.asarray(found)
