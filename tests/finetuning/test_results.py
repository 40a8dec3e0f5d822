"""Results side by side: the mean over seeds, its interval, its cost."""

import numpy as np
import pytest

from cookbook.finetuning.results import Result, intervals, table


def result(name, seed, right, seconds=1.0):
    labels = np.zeros(len(right), dtype=int)
    predictions = np.where(right, 0, 1)
    scores = {"accuracy": float(np.mean(right)), "f1": 0.5 + seed}
    return Result(name, seed, 1e-3, scores, scores, predictions, labels, seconds, 10, 7)


RESULTS = [
    result("full", 0, [True] * 8 + [False] * 2, seconds=2.0),
    result("full", 1, [True] * 6 + [False] * 4, seconds=4.0),
    result("majority class", 0, [True] * 3 + [False] * 7),
]


def test_right_is_where_prediction_and_label_agree():
    assert RESULTS[0].right.tolist() == [True] * 8 + [False] * 2


def test_intervals_are_over_seeds_and_rows():
    found = intervals(RESULTS)
    assert list(found) == ["full", "majority class"]
    mean, low, high = found["full"]
    assert mean == pytest.approx(0.7)
    assert 0.3 < low < mean < high <= 1
    narrow = intervals(RESULTS, confidence=0.5)["full"]
    assert low < narrow[1] < narrow[2] <= high


def test_table_has_one_row_for_each_name():
    rows = table(RESULTS)
    assert list(rows.index) == ["full", "majority class"]
    assert rows.loc["full", "accuracy"] == 0.7
    assert rows.loc["full", "macro F1"] == 1.0
    assert (rows.loc["full", "seeds"], rows.loc["full", "seconds"]) == (2, 3.0)
    assert rows.loc["full", "trainable"] == 7
