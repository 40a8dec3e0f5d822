"""Shares are as asked, no row is invented, and every rare row is repeated alike."""

from collections import Counter

import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data import imbalance
from cookbook.data.errors import DataError


def three_classes(rows=90):
    made = {"text": [f"row {i}" for i in range(rows)], "label": [i % 3 for i in range(rows)]}
    part = Dataset.from_dict(made).cast_column("label", ClassLabel(names=["a", "b", "c"]))
    return DatasetDict(train=part, test=part)


@settings(max_examples=15)
@given(st.floats(0.02, 0.95))
def test_the_share_is_as_asked_in_every_split(share):
    whole = three_classes()
    made = imbalance.one_against_rest(whole, "b", share)
    for name, part in made.items():
        labels = part["label"]
        assert sum(labels) / len(labels) == pytest.approx(share, abs=1 / len(labels))
        mine = {t for t, label in zip(part["text"], labels, strict=True) if label}
        theirs = zip(whole[name]["text"], whole[name]["label"], strict=True)
        assert mine <= {t for t, label in theirs if label == 1}
        assert len(set(part["text"])) == len(part)
        assert part.features["label"].names == ["other", "b"]


def test_a_draw_belongs_to_its_seed():
    draws = [imbalance.one_against_rest(three_classes(), "a", 0.1, seed=s) for s in (0, 0, 1)]
    texts = [draw["train"]["text"][:] for draw in draws]
    assert texts[0] == texts[1] != texts[2]


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(DataError, match="0 of 90 rows of train are 'z'"):
        imbalance.one_against_rest(three_classes(), "z", 0.1)
    with pytest.raises(DataError, match="between 0 and 1"):
        imbalance.one_against_rest(three_classes(), "a", 5)


def test_repeated_rows_are_the_rare_ones_and_all_alike():
    rare = Dataset.from_dict({"text": list("abcdefghij"), "label": [0] * 7 + [1] * 3})
    counts = Counter(imbalance.repeat_rare(rare)["text"])
    assert all(counts[letter] == 1 for letter in "abcdefg")
    assert sorted(counts[letter] for letter in "hij") == [2, 2, 3]
