"""Tags reach the right pieces and come back whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cookbook.data import word_tags
from cookbook.models import load_tokenizer

WORDS = ["the", "Tensor", "zzgraph", "numpy_array", "(", "1984", "über", "\u200b"]
TOKENIZER = load_tokenizer("docbert")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.integers(1, 8)), max_size=12))
def test_reading_the_labels_back_gives_the_tags(sentence):
    words, tags = [word for word, _ in sentence], [tag for _, tag in sentence]
    for pieces in word_tags.PIECES:
        one = word_tags.align(words, tags, TOKENIZER, pieces=pieces)
        kept = [tag if place >= 0 else 0 for tag, place in zip(tags, one.first, strict=True)]
        assert word_tags.read_back(one, one.row["labels"]) == kept
        assert len(one.row["labels"]) == len(one.row["input_ids"])


def test_one_label_a_word_or_one_a_piece():
    words = ["a", "numpy_array"]
    first, every = (word_tags.align(words, [0, 3], TOKENIZER, pieces=p) for p in word_tags.PIECES)
    cut = len(TOKENIZER.tokenize("numpy_array"))
    assert sum(label == 3 for label in first.row["labels"]) == 1 < cut
    assert sum(label == 3 for label in every.row["labels"]) == cut
    assert first.row["labels"][0] == first.row["labels"][-1] == word_tags.IGNORE


def test_words_that_are_cut_off_count_as_outside():
    one = word_tags.align(["the"] * 10, [1] * 10, TOKENIZER, max_length=6)
    assert one.first == [1, 2, 3, 4] + [-1] * 6
    assert word_tags.read_back(one, one.row["labels"]) == [1] * 4 + [0] * 6


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="2 words with 1 tags"):
        word_tags.align(["a", "b"], [0], TOKENIZER)
    with pytest.raises(ValueError, match="choose one of first, all"):
        word_tags.align(["a"], [0], TOKENIZER, pieces="last")
