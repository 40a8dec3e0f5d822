"""Slices count every row once, confusions add up, and swapping words twice gives the text back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.evaluation import errors

PAIRS = {"he": "she", "his": "her", "man": "woman"}


def test_confusions_add_up_to_the_mistakes():
    rng = np.random.default_rng(0)
    predicted, actual = rng.integers(0, 4, (2, 200))
    found = errors.confusions(predicted, actual, "abcd")
    assert found["rows"].sum() == (predicted != actual).sum()
    assert found["rows"].is_monotonic_decreasing
    first = found.iloc[0]
    mine = actual == "abcd".index(first["label"])
    assert first["share"] == first["rows"] / mine.sum()


def test_every_row_is_in_one_slice_of_each_property():
    rng = np.random.default_rng(1)
    right = rng.random(300) < 0.8
    groups = {"length": rng.integers(0, 3, 300), "source": rng.choice(["a", "b"] + ["c"] * 30, 300)}
    found = errors.slices(right, groups)
    for name in groups:
        part = found[found["property"] == name]
        assert part["rows"].sum() == 300
        assert np.average(part["accuracy"], weights=part["rows"]) == pytest.approx(right.mean())
    assert "(rare)" in set(found["value"]) and found["accuracy"].is_monotonic_increasing


def test_a_slice_that_is_worse_is_said_to_be_and_a_like_one_is_not():
    right = np.array([True, True, True, False] * 50)
    groups = {"half": [i < 100 for i in range(200)]}
    assert not errors.slices(right, groups)["worse"].any()
    right[:100] = False
    assert errors.slices(right, groups)["worse"].tolist() == [True, False]


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="'source' has 1 values for 2 rows"):
        errors.slices([True, False], {"source": ["a"]})


def test_parts_by_length_hold_like_numbers_of_rows():
    texts = ["w " * n for n in range(1, 101)]
    found = errors.by_length(texts, 4)
    assert [found.count(name) for name in dict.fromkeys(found)] == [25] * 4
    assert errors.by_length(["a b"] * 5) == ["2-2 words"] * 5


def test_surest_mistakes_are_mistakes_and_sorted():
    rng = np.random.default_rng(2)
    probabilities, labels = rng.dirichlet(np.ones(3), 50), rng.integers(0, 3, 50)
    found = errors.surest_mistakes(probabilities, labels, 50)
    assert set(found) == set(np.flatnonzero(probabilities.argmax(1) != labels))
    assert (np.diff(probabilities[found].max(1)) <= 0).all()


@given(st.lists(st.sampled_from(["He", "she", "HIS", "her", "woman", "mankind", "x."]), max_size=8))
def test_swapping_twice_gives_the_text_back(words):
    text = " ".join(words)
    once, changed = errors.swapped([text], PAIRS)
    assert errors.swapped(once, PAIRS)[0] == [text]
    assert changed[0] == any(w.lower() in {*PAIRS, *PAIRS.values()} for w in words)


def test_only_whole_words_are_swapped_in_their_case():
    assert errors.swapped(["HIS mankind, His man."], PAIRS)[0] == ["HER mankind, Her woman."]
