"""Pairs that give nothing away by one half, pairs that do, and a head that answers a number."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.finetuning import pairs


def part(rows):
    return Dataset.from_dict(
        {
            "text": [f"head {i}" for i in range(rows)],
            "text_pair": [f"body {i}" for i in range(rows)],
        }
    )


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 30), st.integers(0, 5))
def test_each_half_occurs_once_with_either_label(rows, seed):
    made = pairs.matched(part(rows), seed=seed)
    for column in ("text", "text_pair"):
        with_label = [sorted(t for t, y in zip(made[column], made["label"], strict=True) if y == k)
                      for k in (0, 1)]  # fmt: skip
        assert with_label[0] == with_label[1]
    belongs = [
        a.split()[1] == b.split()[1] for a, b in zip(made["text"], made["text_pair"], strict=True)
    ]
    assert belongs == [bool(label) for label in made["label"]]


def test_the_careless_way_gives_the_label_away_by_one_half():
    made = pairs.mismatched(part(20), ["elsewhere 1", "elsewhere 2"])
    told = [int("body" in text) for text in made["text_pair"]]
    assert told == made["label"] and sum(told) == 20
    assert pairs.half(DatasetDict(test=made))["test"].column_names == ["text", "label"]


def test_the_threshold_gets_most_rows_right():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, labels = rng.integers(0, 6, 12) / 6, rng.integers(0, 2, 12)
        cut = pairs.threshold(scores, labels)
        best = max(((scores > c) == labels).mean() for c in [-1, *np.arange(13) / 12, 2])
        assert ((scores > cut) == labels).mean() == best


def test_a_number_is_learnt(checkpoint, tmp_path):
    features = Features(
        {"text": Value("string"), "text_pair": Value("string"), "label": Value("float32")}
    )
    texts = ["solver " * (1 + i % 5) for i in range(40)]
    rows = {"text": texts, "text_pair": ["matrix"] * 40, "label": [1.0 + i % 5 for i in range(40)]}
    every = Dataset.from_dict(rows, features=features)
    data = DatasetDict(train=every, validation=every, test=every)
    found = pairs.rate(
        checkpoint, data, learning_rate=5e-3, max_steps=40, batch_size=8, output_dir=tmp_path
    )
    assert np.corrcoef(found, rows["label"])[0, 1] > 0.8
    assert found.mean() == pytest.approx(3, abs=1)


def dict_of(rows):
    return DatasetDict({name: part(rows) for name in ("train", "validation", "test")})


def test_pairs_without_a_label_are_made_in_two_ways_and_others_stay():
    made = pairs.ways(dict_of(30), 24, 10)
    assert list(made) == ["dealt out", "from one pool"]
    assert {name: len(part) for name, part in made["dealt out"].items()} == {
        "train": 24, "validation": 10, "test": 10,
    }  # fmt: skip
    assert list(pairs.ways(made["dealt out"], 8, 4)) == ["as given"]


def doubled(texts):
    """Every text beside itself, a third of them in each split."""
    alike = Dataset.from_dict({"text": texts, "text_pair": texts})
    names = ("train", "validation", "test")
    return DatasetDict({name: alike.shard(3, i, contiguous=True) for i, name in enumerate(names)})


def test_words_in_common_tell_pairs_that_have_any_and_a_constant_is_half_right():
    data = pairs.ways(doubled([f"word{i} and more" for i in range(60)]), 40, 40)["dealt out"]
    scores = {name: pairs.score(found, data) for name, found in pairs.opponents(data).items()}
    assert scores["words in common"] == 1 and scores["most frequent"] == 0.5


def test_numbers_are_scored_by_their_order():
    texts = ["red fox", "red", "sea"], ["red fox", "red sun", "sky"]
    every = Dataset.from_dict({"text": texts[0], "text_pair": texts[1], "label": [5.0, 3.0, 0.5]})
    data = DatasetDict(train=every, validation=every, test=every)
    assert pairs.graded(data) and pairs.score([50, 3, 1], data) == pytest.approx(1)
    found = pairs.opponents(data)
    assert pairs.score(found["always the mean"], data) == 0
    assert pairs.score(found["words in common"], data) == pytest.approx(1)


def test_an_untrained_encoder_knows_equal_texts_and_one_cut_serves_two_classes_only(checkpoint):
    texts = [f"solver number {i} " * (1 + i % 3) for i in range(36)]
    data = pairs.ways(doubled(texts), 24, 24)["dealt out"]
    found = pairs.opponents(data, checkpoint, max_length=32)
    assert pairs.score(found["cosines"], data) == 1
    three = data.cast_column("label", ClassLabel(names=["a", "b", "c"]))
    assert list(pairs.opponents(three, checkpoint)) == ["most frequent", "TF-IDF + linear"]
