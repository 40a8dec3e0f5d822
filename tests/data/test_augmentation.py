"""Random edits: counts and bounds, for words and for characters."""

import random
from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from cookbook.data.augmentation import (
    OPERATIONS,
    augment,
    pieces,
    random_delete,
    random_insert,
    random_mask,
    random_swap,
)
from cookbook.data.errors import DataError

# One script at a time: two Latin words that a swap brings together around Chinese are one word.
TEXT = st.text(alphabet="abé, \n", max_size=30) | st.text(alphabet="好送餐快 ", max_size=20)
RATE = st.floats(0, 1)
SEED = st.integers(0, 99)


def edit(operation, text, rate, seed):
    return operation(text, rate, random.Random(seed))


@given(TEXT)
def test_pieces_joined_are_the_text(text):
    assert "".join(pieces(text)) == (text if text.strip() else "")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_rate_zero_changes_nothing_and_empty_stays_empty(operation):
    assert edit(operation, "a b  c\nd", 0, 1) == "a b  c\nd"
    assert edit(operation, "", 0.5, 1) == ""


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@given(TEXT, RATE, SEED)
def test_a_seed_gives_one_result(operation, text, rate, seed):
    assert edit(operation, text, rate, seed) == edit(operation, text, rate, seed)


@given(TEXT, RATE, SEED)
def test_swap_moves_words_and_neither_adds_nor_loses_one(text, rate, seed):
    edited = edit(random_swap, text, rate, seed)
    assert Counter(map(str.strip, pieces(edited))) == Counter(map(str.strip, pieces(text)))


@given(TEXT, RATE, SEED)
def test_delete_leaves_words_in_order_and_at_least_one(text, rate, seed):
    before = [piece.strip() for piece in pieces(text)]
    after = [piece.strip() for piece in pieces(edit(random_delete, text, rate, seed))]
    walk = iter(before)
    assert all(word in walk for word in after)
    assert bool(after) == bool(before)


@given(TEXT, RATE, SEED)
def test_insert_adds_words_of_the_text(text, rate, seed):
    before = Counter(map(str.strip, pieces(text)))
    after = Counter(map(str.strip, pieces(edit(random_insert, text, rate, seed))))
    n = before.total()
    assert after.total() - n == (max(1, round(rate * n)) if n and rate > 0 else 0)
    assert set(after) == set(before) and not before - after


def test_mask_hits_the_share_it_is_told():
    words = edit(random_mask, "word " * 5000, 0.15, 0).split()
    assert len(words) == 5000
    # 750 expected, standard deviation 25
    assert abs(words.count("[MASK]") - 750) < 125
    assert random_mask("a b", 1.0, random.Random(0), mask="<mask>") == "<mask> <mask>"


def test_delete_hits_the_share_it_is_told():
    assert abs(len(edit(random_delete, "word " * 5000, 0.15, 0).split()) - 4250) < 125


def test_chinese_is_edited_by_character():
    assert sorted(edit(random_swap, "送餐快", 0.3, 0)) == sorted("送餐快")
    assert edit(random_swap, "送餐快", 0.3, 0) != "送餐快"
    assert " " not in edit(random_insert, "送餐快", 1, 0)


ROWS = Dataset.from_dict({"text": ["one two three four five", "", "x"], "label": [0, 1, 1]})


def test_augment_appends_edited_copies_with_their_labels():
    bigger = augment(ROWS, operations=["delete"], rate=0.5, copies=3, seed=1)
    assert bigger[:3] == ROWS[:]
    assert bigger.features == ROWS.features
    for row in bigger.select(range(3, len(bigger))):
        assert row["label"] == 0 and row["text"] != ROWS[0]["text"]


def test_augment_is_seeded_by_row():
    texts = {seed: augment(ROWS, rate=0.5, seed=seed)["text"][3:] for seed in (0, 0, 1)}
    assert augment(ROWS, rate=0.5, seed=0)["text"][3:] == texts[0] != texts[1]
    # A row's edit does not depend on the rows before it.
    assert augment(ROWS.select([0]), rate=0.5)["text"][1] == texts[0][0]


def test_bad_requests():
    with pytest.raises(DataError, match="'rotate' is no operation: choose from mask, insert"):
        augment(ROWS, operations=["rotate"])
    with pytest.raises(DataError, match="there is no column 'body'"):
        augment(ROWS, text_column="body")
