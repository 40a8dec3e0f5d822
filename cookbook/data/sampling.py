"""How the rows are spread over classes, sources and domains, and how to level them.

It reports and samples; it never invents rows (`augmentation` does). Used by chapter 01.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cookbook.data.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame


def balance(
    dataset: Dataset, column: str, *, text_column: str = "text", alpha: float = 0.5
) -> DataFrame:
    """Rows, share of rows and share of characters of each value of `column`, largest first.

    `sampled` is the share under temperature sampling, p ~ rows**alpha, by which Conneau and
    Lample (2019, "Cross-lingual Language Model Pretraining") let small sources be heard: 1 keeps
    the shares, 0 makes them equal. Raises DataError for an unknown column.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": ["a", "b", "c", "d", "ee"], "source": list("xxxxy")})
    >>> balance(rows, "source")[["rows", "share", "sampled"]].round(2).values.tolist()
    [[4.0, 0.8, 0.67], [1.0, 0.2, 0.33]]
    """
    from pandas import DataFrame

    names = value_names(dataset, column)
    table = DataFrame({column: names, "rows": 1})
    if text_column in dataset.column_names:
        table["characters"] = [len(str(text or "")) for text in dataset[text_column]]
    table = table.groupby(column).sum().sort_values("rows", ascending=False, kind="stable")
    table["share"] = table["rows"] / table["rows"].sum()
    if "characters" in table:
        characters = table.pop("characters")
        table["share_of_characters"] = characters / max(characters.sum(), 1)
    weight = table["rows"] ** alpha
    table["sampled"] = weight / weight.sum()
    return table


def class_balance(dataset: Dataset, label_column: str = "label") -> DataFrame:
    """`balance` of the classes, with the rows of the largest class for one of each (`ratio`).

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": list("abcd"), "label": ["ham", "ham", "ham", "spam"]})
    >>> class_balance(rows)["ratio"].tolist()
    [1.0, 3.0]
    """
    table = balance(dataset, label_column).drop(columns="sampled")
    table["ratio"] = table["rows"].max() / table["rows"]
    return table


def cap(dataset: Dataset, column: str, at_most: int, *, seed: int = 0) -> Dataset:
    """At most `at_most` rows of each value of `column`, drawn at random, in their old order.

    Cap the training split only: a test split keeps the shares of the world.

    >>> from datasets import Dataset
    >>> cap(Dataset.from_dict({"source": list("xxxxy")}), "source", 2)["source"][:]
    ['x', 'x', 'y']
    """
    names = np.array(value_names(dataset, column))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    chosen = [shuffled[names[shuffled] == name][:at_most] for name in np.unique(names)]
    return dataset.select(np.sort(np.concatenate(chosen))) if chosen else dataset


def value_names(dataset: Dataset, column: str) -> list[str]:
    """The values of a column as text, classes by name; DataError if there is no such column."""
    from datasets import ClassLabel

    if column not in dataset.column_names:
        raise DataError(
            f"there is no column {column!r}: the columns are {', '.join(dataset.column_names)}"
        )
    feature = dataset.features[column]
    values = dataset[column]
    if isinstance(feature, ClassLabel):  # -1 and None: not labelled
        return [feature.int2str(v) if v is not None and v >= 0 else "(none)" for v in values]
    return [str(value) for value in values]
