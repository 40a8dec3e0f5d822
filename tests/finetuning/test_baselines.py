"""Baselines in the form of a strategy's result, fitted on training rows only."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from cookbook.evaluation.metrics import trivial_baseline
from cookbook.finetuning import baselines


def splits(*parts, classes=3, **columns):
    features = Features(
        {"text": Value("string"), **columns, "label": ClassLabel(num_classes=classes)}
    )
    names = ("train", "validation", "test")
    rows = [Dataset.from_dict(part, features=features) for part in parts]
    return DatasetDict(zip(names, rows, strict=True))


def test_majority_is_the_training_splits(labelled):
    uneven = splits(
        {"text": list("abcd"), "label": [2, 2, 1, 0]},
        {"text": list("ef"), "label": [1, 2]},
        {"text": list("ghij"), "label": [1, 1, 1, 2]},
    )
    result = baselines.majority(uneven)
    assert result.predictions.tolist() == [2, 2, 2, 2]
    expected = trivial_baseline([1, 1, 1, 2], train_labels=[2, 2, 1, 0])
    assert result.test["accuracy"] == expected["majority_accuracy"] == 0.25
    assert result.test["f1"] == expected["majority_f1"]
    assert (result.trainable, result.validation["accuracy"]) == (0, 0.5)
    assert baselines.majority(labelled).test["accuracy"] == pytest.approx(1 / 3)


def test_words_are_counted(labelled):
    result = baselines.tfidf(labelled)
    assert result.test["accuracy"] == 1.0
    assert result.labels.tolist() == labelled["test"]["label"]
    assert result.trainable > 0


def test_a_class_that_training_never_showed(labelled):
    seen = labelled["train"].filter(lambda row: row["label"] != 1)
    result = baselines.tfidf(DatasetDict({**labelled, "train": seen}))
    assert set(result.predictions) <= {0, 2}
    assert result.test["recall"] == pytest.approx(2 / 3)


def test_a_script_without_spaces():
    good, bad = ["很好吃", "味道好", "好喜欢"] * 3, ["太难吃", "味道差", "差极了"] * 3
    part = {"text": good + bad, "label": [1] * 9 + [0] * 9}
    new = {"text": ["真好", "真差"], "label": [1, 0]}  # as words, none of them was seen before
    assert baselines.tfidf(splits(part, part, new, classes=2)).test["accuracy"] == 1.0


def test_both_texts_of_a_pair_count():
    part = {
        "text": ["the same words"] * 6,
        "text_pair": ["yes agreed", "no never"] * 3,
        "label": [1, 0] * 3,
    }
    pairs = splits(part, part, part, classes=2, text_pair=Value("string"))
    assert baselines.tfidf(pairs).test["accuracy"] == 1.0


def test_validation_chooses_c_and_the_test_split_does_not(labelled, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    tried = []
    score = LogisticRegression.score

    def spy(self, x, y):
        tried.append((self.C, list(y)))
        return score(self, x, y)

    monkeypatch.setattr(LogisticRegression, "score", spy)
    held_out = list(labelled["validation"]["label"])[:-1]
    uneven = {**labelled, "validation": labelled["validation"].select(range(len(held_out)))}
    baselines.tfidf(DatasetDict(uneven), rates=(0.1, 1.0))
    assert tried == [(0.1, held_out), (1.0, held_out)]
    assert np.array_equal(
        baselines.tfidf(labelled).predictions, baselines.tfidf(labelled, seed=5).predictions
    )
