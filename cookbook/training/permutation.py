"""Permutation language modelling, the objective of XLNet: any order, but never ahead in it.

A factorisation order is a permutation of the places, not of the words: the text keeps its
positions, and a mask says who sees whom. A place that is predicted sees all of the context and the
predicted places before it *in the order*, wherever they stand in the text; it never sees itself.
Only the last places of the order are predicted, a sixth of them: the first ones, with hardly any
context, are too hard to learn from. It turns ids into batches and trains nothing. Yang et al. 2019,
arXiv:1906.08237, sections 2.2 and 2.3. Used by chapter 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cookbook.training.span_denoising import noise_spans
from cookbook.training.stacking import IGNORE, attended, generator_of, stack, text_of


def hidden_from(rank: np.ndarray) -> np.ndarray:
    """(length, length) bool: true where place i must not see place j.

    `rank` (length,) is the place in the factorisation order of each predicted position, from 0,
    and -1 for context: context sees context only, a predicted position sees context and what comes
    before it in the order. That is `perm_mask` of `transformers.XLNetModel`. A position that may
    see nothing is given a softmax over nothing but hidden scores, which is no secret at all: keep
    some context.

    >>> hidden_from(np.array([-1, 1, 0])).astype(int).tolist()
    [[0, 1, 1], [0, 1, 0], [0, 1, 1]]
    """
    return (rank[:, None] <= rank[None, :]) & (rank >= 0)[None, :]


def random_rank(
    length: int, generator: np.random.Generator, *, predict: float = 1 / 6, mean_length: float = 3.0
) -> np.ndarray:
    """(length,) int64: -1 for context, 0, 1, 2 … in random order for what is predicted.

    Exactly `round(predict * length)` places are predicted, in spans of `mean_length` on average
    (the paper draws span lengths from 1 to 5 evenly). The first place is always context.

    >>> sorted(random_rank(12, np.random.default_rng(0)).tolist())[-3:]
    [-1, 0, 1]
    """
    targets = noise_spans(length, generator, density=predict, mean_length=mean_length)
    rank = np.full(length, -1, np.int64)
    rank[targets] = generator.permutation(targets.sum())
    return rank


def permuted(texts: Sequence[np.ndarray], ranks: Sequence[np.ndarray], pad_id: int) -> dict:
    """A batch for `XLNetLMHeadModel` from ids and ranks, one pair a text.

    `perm_mask` (batch, length, length) and `target_mapping` (batch, targets, length) are float, as
    the model wants them; `labels` (batch, targets) are the predicted tokens in the order of the
    text, -100 where a text has fewer. `input_ids` show the text itself: what hides a predicted
    token is the mask.
    """
    ids = stack(texts, pad_id)
    places = [np.flatnonzero(rank >= 0) for rank in ranks]
    most = max(map(len, places))
    hidden = torch.zeros(*ids.shape, ids.shape[1])
    mapping = torch.zeros(len(texts), most, ids.shape[1])
    for row, (rank, chosen) in enumerate(zip(ranks, places, strict=True)):
        hidden[row, : len(rank), : len(rank)] = torch.from_numpy(hidden_from(rank)).float()
        mapping[row, np.arange(len(chosen)), chosen] = 1.0
    labels = [text[chosen] for text, chosen in zip(texts, places, strict=True)]
    return {
        "input_ids": ids, "attention_mask": attended(texts), "perm_mask": hidden,
        "target_mapping": mapping, "labels": stack(labels, IGNORE, most),
    }  # fmt: skip


class PermutationCollator:
    """Batches for `XLNetLMHeadModel`: see `permuted`.

    Takes rows of a `Keyed` dataset; order and targets are a function of (seed, epoch, row).
    """

    def __init__(self, *, pad_id: int, predict: float = 1 / 6, seed: int = 0) -> None:
        self.pad_id, self.predict, self.seed = pad_id, predict, seed

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        texts = [text_of(row) for row in rows]
        ranks = [
            random_rank(len(text), generator_of(row, self.seed), predict=self.predict)
            for text, row in zip(texts, rows, strict=True)
        ]
        return permuted(texts, ranks, self.pad_id)
