"""What a leaking split fakes: one classifier, scored on random rows and on rows kept together.

A nearest neighbour finds the copy of a test row whenever there is one in the training rows, so it
shows plainly what any model that memorises gains in secret. It mends nothing: `splits.split` does.
The pitfall of chapter 01.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cookbook.data import deduplication, splits
from cookbook.data.sampling import value_names

if TYPE_CHECKING:
    from datasets import Dataset
    from pandas import DataFrame

MOST_TEST_ROWS = 2000  # each is compared with every training row


def split_scores(
    dataset: Dataset,
    label_column: str = "label",
    *,
    seeds: Sequence[int] = (0, 1, 2),
    text_column: str = "text",
) -> DataFrame:
    """Accuracy of the nearest neighbour, copies spread at random or kept together by the split.

    A row a seed and split: `leaked`, the share of test rows that have a (near) copy among the
    training rows; `accuracy` over all test rows; `on copies` and `on new rows` apart (NaN where
    there are none). Both splits are 80 / 20. Raises DataError for an unknown column.

    >>> from datasets import Dataset
    >>> rows = [{"text": f"row number {i // 2}", "label": i // 2 % 2} for i in range(40)]
    >>> scores = split_scores(Dataset.from_list(rows), seeds=[0])
    >>> bool(scores["leaked"][0] > 0.5), float(scores["leaked"][1])
    (True, 0.0)
    """
    from pandas import DataFrame

    texts, labels = list(dataset[text_column]), np.array(value_names(dataset, label_column))
    together = deduplication.near_duplicates(texts)
    found = []
    for seed in seeds:
        shuffled = np.random.default_rng(seed).permutation(len(texts))
        cut = len(texts) * 4 // 5
        kept = _keep_together(together, seed)
        for name, (train, test) in {
            "random rows": (shuffled[:cut], shuffled[cut:]),
            "copies together": kept,
        }.items():
            scores = _score(texts, labels, together, train, test[:MOST_TEST_ROWS])
            found.append({"split": name, "seed": seed, **scores})
    return DataFrame(found)


def _keep_together(together: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from datasets import Dataset

    numbered = Dataset.from_dict({"row": list(range(len(together)))})
    parts = splits.split(
        numbered, groups=together, fractions=(0.8, 0.2), names=("train", "test"), seed=seed
    )
    return np.array(parts["train"]["row"]), np.array(parts["test"]["row"])


def _score(
    texts: list[str], labels: np.ndarray, together: np.ndarray, train: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", max_features=50_000)
    known = vectors.fit_transform([texts[row] for row in train])
    nearest = (vectors.transform([texts[row] for row in test]) @ known.T).argmax(axis=1)
    right = labels[train][np.asarray(nearest).ravel()] == labels[test]
    copy = np.isin(together[test], together[train])
    parts = {"on copies": right[copy], "on new rows": right[~copy]}
    means = {name: part.mean() if len(part) else np.nan for name, part in parts.items()}
    return {"leaked": copy.mean(), "accuracy": right.mean(), **means}
