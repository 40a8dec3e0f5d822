"""What copies across a split do to a score: test rows with a twin in training, and without.

Two quick classifiers on counted words stand for any model: the nearest neighbour, which can do
nothing but remember, and a linear one. They are instruments here, not baselines (those are in
`finetuning.baselines`). It repairs nothing: `cleaning` and `splits` do. The pitfall of chapter 01.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cookbook.data.deduplication import near_duplicates_across
from cookbook.data.sampling import value_names
from cookbook.data.shingles import words

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

GROUPS = ("all test rows", "copied from training", "new")


def score_by_copies(
    train: Dataset, test: Dataset, target: str = "label", *, seed: int = 0
) -> DataFrame:
    """Accuracy of both classifiers over all test rows, over those with a (near) copy in `train`
    and over the new ones; NaN where a group has no row.

    Columns rows, share, "nearest neighbour", "linear"; one line for each of `GROUPS`. `target` is
    the column to predict. Features are TF-IDF of words, or of characters in scripts that write no
    spaces. Copies are `near_duplicates_across`. Source of the comparison: Lee et al. (2022), who
    find that copies across splits flatter language models in the same way.

    >>> from datasets import Dataset
    >>> train = Dataset.from_dict({"text": ["good food", "bad food", "good"], "label": [1, 0, 1]})
    >>> score_by_copies(train, train)["nearest neighbour"].tolist()
    [1.0, 1.0, nan]
    """
    from pandas import DataFrame

    right = _right(train, test, target, seed)
    copied = near_duplicates_across(train["text"], test["text"]) >= 0
    table = {}
    for group, rows in zip(GROUPS, (np.full(len(test), True), copied, ~copied), strict=True):
        scores = {name: hits[rows].mean() if rows.any() else np.nan for name, hits in right.items()}
        table[group] = {"rows": rows.sum(), "share": rows.mean(), **scores}
    return DataFrame(table).T.astype({"rows": int})


def with_target(dataset: Dataset) -> tuple[Dataset, str]:
    """The dataset and the name of a column to predict: `label`, `library`, or a stand-in.

    Where there are neither labels nor libraries, a column `length` is added, the order of
    magnitude of the text: it says nothing of use, but is known for every row.

    >>> from datasets import Dataset
    >>> rows, target = with_target(Dataset.from_dict({"text": ["ab", "a" * 500]}))
    >>> target, rows["length"][:]
    ('length', ['1 to 9 characters', '100 to 999 characters'])
    """
    from datasets import Dataset

    if named := next((name for name in ("label", "library") if name in dataset.column_names), ""):
        return dataset, named
    powers = [10 ** (len(str(len(text or ""))) - 1) for text in dataset["text"]]
    table = dataset.with_format("arrow")[:]
    lengths = [f"{power:,} to {10 * power - 1:,} characters" for power in powers]
    return Dataset(table.append_column("length", [lengths])), "length"


def _right(train: Dataset, test: Dataset, target: str, seed: int) -> dict[str, np.ndarray]:
    """Classifier -> (test rows,) bool: was the answer right?"""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier

    answers, truth = (np.array(value_names(part, target)) for part in (train, test))
    counter = TfidfVectorizer(analyzer=words, sublinear_tf=True)
    known, asked = counter.fit_transform(train["text"]), counter.transform(test["text"])
    nearest = [  # in blocks: the product of all rows would not fit into memory
        np.asarray((asked[start : start + 500] @ known.T).argmax(axis=1)).ravel()
        for start in range(0, asked.shape[0], 500)
    ]
    right = {"nearest neighbour": answers[np.concatenate(nearest)] == truth}
    if len(set(answers)) > 1:
        linear = SGDClassifier(loss="log_loss", alpha=1e-6, random_state=seed).fit(known, answers)
        right["linear"] = linear.predict(asked) == truth
    return right
