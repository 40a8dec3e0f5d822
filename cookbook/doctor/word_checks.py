"""Words that a script numbers by itself, without a tokenizer: T5 most are one number, D9 none left.

It looks at pairs `(numbers of words, label)` only. One number for most words is that of the unknown
ones; what padding is says the embedding of the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from cookbook.doctor.checks import Skip
from cookbook.doctor.findings import Finding

KINDS, WORDS = 20, 500  # different numbers, and numbers in all, that make words of them
ONE = 0.3  # share of one number among them; of a language the commonest word is a tenth
EMPTY = 0.01  # share of rows without a word that is still normal


def check_words_are_known(subject: Any) -> Iterable[Finding]:
    """T5: one number stands for most words of the training rows."""
    rows, padding = _rows(subject)
    counts = Counter(int(i) for row in rows for i in row.tolist() if i != padding)
    total = counts.total()
    if len(counts) < KINDS or total < WORDS:
        raise Skip("does not apply")
    number, often = counts.most_common(1)[0]
    if often > ONE * total:
        yield Finding(
            "T5", "warn",
            f"{often / total:.0%} of {total:,} words are number {number} (bound: {ONE:.0%}), as "
            "unknown ones are",
            "make the vocabulary of the training texts, with the same splitting and the same case",
            {"share": often / total, "words": total},
        )  # fmt: skip


def check_rows_hold_words(subject: Any) -> Iterable[Finding]:
    """D9: rows without any word, or of nothing but padding."""
    rows, padding = _rows(subject)
    kept = rows if padding is None else [row[row != padding] for row in rows]
    empty = sum(not row.numel() for row in kept)
    if empty > max(1, EMPTY * len(rows)):
        yield Finding(
            "D9", "warn",
            f"{empty / len(rows):.1%} of {len(rows):,} training rows have no word (bound: "
            f"{EMPTY:.0%})",
            measured={"rows_empty": empty, "rows": len(rows)},
        )  # fmt: skip


def _rows(subject: Any) -> tuple[list[torch.Tensor], int | None]:
    """The numbers of each row, and that of padding; Skip where rows are no such pairs."""
    rows = [row[0] for row in subject.train.rows if isinstance(row, list | tuple) and row]
    whole = all(
        isinstance(x, torch.Tensor) and x.dim() == 1 and not x.is_floating_point()
        and x.dtype != torch.bool for x in rows
    )  # fmt: skip
    tables = [m for m in subject.model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)] \
        if subject.model is not None else []  # fmt: skip
    if not rows or not whole or not tables:
        raise Skip("does not apply")
    return rows, next((m.padding_idx for m in tables if m.padding_idx is not None), None)


CHECKS = (check_words_are_known, check_rows_hold_words)
