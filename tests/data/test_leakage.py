"""What a leaking split fakes, on rows whose copies are counted by hand."""

import numpy as np
import pytest
from datasets import Dataset

from cookbook.data import DataError, leakage

RNG = np.random.default_rng(0)
WORDS = [f"w{i}" for i in range(300)]


def rows(count, copies):
    """`count` texts of random words, each `copies` times, under labels that no word tells."""
    texts = [" ".join(RNG.choice(WORDS, 12)) for _ in range(count)]
    labels = RNG.integers(0, 4, count).tolist()
    return Dataset.from_dict({"text": texts * copies, "label": labels * copies})


def test_without_copies_both_splits_score_at_chance():
    scores = leakage.split_scores(rows(400, 1), seeds=[0])
    assert (scores["leaked"] == 0).all()
    assert (scores["accuracy"] - 0.25).abs().max() < 0.2
    assert scores["on copies"].isna().all()


def test_copies_fake_a_score_that_keeping_them_together_takes_back():
    scores = leakage.split_scores(rows(150, 4), seeds=[0, 1]).groupby("split").mean()
    assert scores.loc["random rows", "leaked"] > 0.95
    assert scores.loc["random rows", "on copies"] == 1.0  # the copy is found, labels and all
    assert scores.loc["copies together", "leaked"] == 0.0
    assert scores.loc["copies together", "accuracy"] < 0.5


def test_an_unknown_label_column_is_a_data_error():
    with pytest.raises(DataError, match="there is no column 'stars'"):
        leakage.split_scores(rows(10, 1), "stars")
