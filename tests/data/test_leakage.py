"""Copies across a split: rows with a twin in training are told apart, and scored apart."""

import random

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from cookbook.data.leakage import GROUPS, score_by_copies, with_target

FEATURES = Features(text=Value("string"), label=ClassLabel(names=["a", "b"]))


def noise(rows, seed):
    """Texts that say nothing of their labels: only memory is right more than half the time."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(5000)]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(rows)]
    return {"text": texts, "label": [rng.randrange(2) for _ in texts]}


def test_on_noise_only_the_copies_are_right():
    train, fresh = noise(400, 0), noise(400, 1)
    copied = {
        "text": [text + " End." for text in train["text"][:100]],
        "label": train["label"][:100],
    }
    test = {name: fresh[name] + copied[name] for name in fresh}
    table = score_by_copies(*(Dataset.from_dict(part, FEATURES) for part in (train, test)))
    assert tuple(table.index) == GROUPS and table["rows"].tolist() == [500, 100, 400]
    assert table.loc["copied from training", "nearest neighbour"] == 1.0
    for model in ("nearest neighbour", "linear"):
        # Chance is 0.5, standard error 0.025
        assert abs(table.loc["new", model] - 0.5) < 0.1
        assert table.loc["all test rows", model] == pytest.approx(
            0.2 * table.loc["copied from training", model] + 0.8 * table.loc["new", model]
        )


def test_without_copies_there_is_nothing_to_score():
    parts = [Dataset.from_dict(noise(20, seed), FEATURES) for seed in (0, 1)]
    table = score_by_copies(*parts)
    assert table.loc["copied from training", "rows"] == 0
    assert np.isnan(table.loc["copied from training", "linear"])
    assert table.loc["new", "share"] == 1.0


def test_one_class_only_and_chinese():
    rows = Dataset.from_dict({"text": ["送餐很快", "味道不错"], "label": [1, 1]})
    table = score_by_copies(rows, rows)
    assert "linear" not in table and table.loc["all test rows", "nearest neighbour"] == 1.0


def test_a_target_is_found_or_made_up():
    labelled = Dataset.from_dict(noise(3, 0), FEATURES)
    assert with_target(labelled) == (labelled, "label")
    plain = Dataset.from_dict({"text": ["x" * 12, None, ""]}).select([2, 0, 1])
    rows, target = with_target(plain)
    assert target == "length" and rows["text"][:] == ["", "x" * 12, None]
    assert rows["length"][:] == ["1 to 9 characters", "10 to 99 characters", "1 to 9 characters"]
