"""Mistakes of chapter 15, made on purpose: runs that give no error and learn the wrong thing.

Each takes rows as they should be and spoils one thing. What it looks like, and who notices, is for
the chapter to show. Nothing else uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cookbook.data.word_tags import IGNORE, Aligned


def unaligned(rows: Sequence[Aligned], tags: Sequence[Sequence[int]]) -> list[Aligned]:
    """The tags of words laid over pieces one after the other, as if each word were one piece.

    The first word that is cut shifts all tags behind it; pieces that are left over get tag 0.

    >>> rows = [Aligned({"input_ids": [2, 9, 8, 7, 3], "labels": []}, [1, 3])]
    >>> unaligned(rows, [[0, 4]])[0].row["labels"]
    [-100, 0, 4, 0, -100]
    """
    spoilt = []
    for one, marks in zip(rows, tags, strict=True):
        inside = len(one.row["input_ids"]) - 2  # without [CLS] and [SEP]
        laid = [*marks, *[0] * inside][:inside]
        spoilt.append(Aligned(one.row | {"labels": [IGNORE, *laid, IGNORE]}, one.first))
    return spoilt


def without_end(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Targets that do not end: their last label, the end token, is left out.

    >>> without_end([{"input_ids": [5], "labels": [7, 8, 3]}])
    [{'input_ids': [5], 'labels': [7, 8]}]
    """
    return [row | {"labels": row["labels"][:-1]} for row in rows]
