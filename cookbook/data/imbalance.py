"""Rare classes: make a set with one, and let its rows be seen more often.

Does: one class against all others at a given share, repetition of rare rows. Does not: invent rows
(`augmentation` does) nor weight a loss. Used by chapter 12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cookbook.data.errors import DataError
from cookbook.data.sampling import value_names

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def one_against_rest(
    dataset: DatasetDict, name: str, share: float, *, seed: int = 0
) -> DatasetDict:
    """Two classes, "other" and `name`, with `name` in `share` of the rows of every split.

    Rows of the rarer side are drawn at random, those of the other side all stay, so that a split is
    as large as the share allows; what is left out is left out of both sides alike, and the order
    stays. Raises DataError for a class that does not occur and a share outside 0 to 1.

    >>> from datasets import ClassLabel, Dataset, DatasetDict
    >>> rows = Dataset.from_dict({"text": list("abcdefgh"), "label": [0, 1] * 4})
    >>> rows = rows.cast_column("label", ClassLabel(names=["ham", "spam"]))
    >>> one_against_rest(DatasetDict(train=rows), "spam", 0.2)["train"]["label"][:].count(1)
    1
    """
    from datasets import DatasetDict

    if not 0 < share < 1:
        raise DataError(f"share {share} must lie between 0 and 1, such as 0.05")
    return DatasetDict(
        {split: _binary(part, split, name, share, seed) for split, part in dataset.items()}
    )


def repeat_rare(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Every class as often as the largest: rows of the others are repeated, then all are shuffled.

    For the training split only. Whole rounds first, so no row comes twice more often than another.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": list("abcd"), "label": [0, 0, 0, 1]})
    >>> sorted(repeat_rare(rows)["text"])
    ['a', 'b', 'c', 'd', 'd', 'd']
    """
    labels, rng = np.asarray(dataset["label"]), np.random.default_rng(seed)
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(map(len, places))
    drawn = [np.resize(rng.permutation(own), most) for own in places]
    return dataset.select(rng.permutation(np.concatenate(drawn)))


def _binary(part: Dataset, split: str, name: str, share: float, seed: int) -> Dataset:
    from datasets import ClassLabel

    positive = np.array([value == name for value in value_names(part, "label")])
    if not positive.any() or positive.all():
        raise DataError(f"{positive.sum()} of {len(part)} rows of {split} are {name!r}: need both")
    rng = np.random.default_rng(seed)
    yes, no = (rng.permutation(np.flatnonzero(side)) for side in (positive, ~positive))
    wanted = max(1, round(len(no) * share / (1 - share)))
    if wanted > len(yes):
        wanted, no = len(yes), no[: max(1, round(len(yes) * (1 - share) / share))]
    kept = np.sort(np.concatenate([yes[:wanted], no]))
    binary = part.select(kept).remove_columns("label")
    binary = binary.add_column("label", positive[kept].astype(int).tolist())
    return binary.cast_column("label", ClassLabel(names=["other", name]))
