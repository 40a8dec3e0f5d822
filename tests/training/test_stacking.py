"""Rows become a rectangle; what fills it up is not attended to; a row has its own chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.training import stacking

ROWS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=5)


@given(ROWS, st.integers(0, 12))
def test_rows_come_back_from_the_stack_and_the_rest_is_filling(rows, length):
    stacked = stacking.stack(rows, fill=-1, length=length)
    assert stacked.shape == (len(rows), max(length, *map(len, rows), 0))
    assert [[i for i in row if i != -1] for row in stacked.tolist()] == rows


@given(ROWS)
def test_attention_counts_exactly_the_tokens(rows):
    assert stacking.attended(rows).sum(1).tolist() == [len(row) for row in rows]


@pytest.mark.parametrize("mask", ["document_ids", "attention_mask"])
def test_padding_of_a_row_is_left_out(mask):
    assert stacking.text_of({"input_ids": [7, 8, 0], mask: [1, 2, 0]}).tolist() == [7, 8]


def test_a_row_has_the_same_chance_again_and_another_one_next_epoch():
    def draw(epoch, seed=0):
        return stacking.generator_of({"epoch": epoch, "row": 3}, seed).random(4)

    assert np.array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1)) and not np.array_equal(draw(0), draw(0, 1))


def test_a_row_without_keys_is_refused():
    with pytest.raises(ValueError, match="Keyed"):
        stacking.generator_of({"input_ids": [1]}, 0)
