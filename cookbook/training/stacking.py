"""Rows of unequal length as one tensor, and the random stream that belongs to a row.

What every collator of the objectives starts and ends with; it knows no objective. Used by all of
`training`'s collators, and so by chapters 03 and 04.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cookbook.training.order import key_generator

IGNORE = -100  # the label that cross-entropy skips
HIDDEN = torch.finfo(torch.float32).min  # added to a score; finite: half of a NaN is a NaN


def stack(rows: Sequence, fill: int, length: int = 0) -> torch.Tensor:
    """(rows, length) int64: rows of integers, filled up on the right to the longest, or `length`.

    >>> stack([[5, 6], [7]], fill=0).tolist()
    [[5, 6], [7, 0]]
    """
    length = max(length, *(len(row) for row in rows))
    out = np.full((len(rows), length), fill, np.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return torch.from_numpy(out)


def attended(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(rows, length) int64: 1 where `stack` of the same rows has content, 0 where it fills up.

    >>> attended([[5, 6], [7]]).tolist()
    [[1, 1], [1, 0]]
    """
    return stack([np.ones(len(row), np.int64) for row in rows], 0)


def text_of(row: Mapping[str, Any]) -> np.ndarray:
    """(tokens,) int64: the ids of a row without the padding that packing left at its end.

    >>> text_of({"input_ids": [4, 5, 0], "document_ids": [1, 1, 0]}).tolist()
    [4, 5]
    """
    ids = np.asarray(row["input_ids"], np.int64)
    kept = row.get("document_ids", row.get("attention_mask"))
    return ids if kept is None else ids[np.asarray(kept) > 0]


def generator_of(row: Mapping[str, Any], seed: int) -> np.random.Generator:
    """The random stream of a row of a `Keyed` dataset. Raises ValueError for a row without keys."""
    if "row" not in row or "epoch" not in row:
        raise ValueError(
            "rows carry no epoch and row, which the noise is drawn from: wrap the dataset in "
            "cookbook.training.order.Keyed"
        )
    return key_generator(seed, row["epoch"], row["row"])
