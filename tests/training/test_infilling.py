"""Exactly the share is hidden, a mask is a span, and the spans follow Poisson."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.training.infilling import TextInfillingCollator, infill, restore, span_lengths
from cookbook.training.order import Keyed
from cookbook.training.stacking import IGNORE

MASK = 4
TEXTS = st.lists(st.integers(5, 800), max_size=120, unique=True)


@given(TEXTS, st.floats(0, 1), st.floats(0.2, 8), st.integers(0, 999))
def test_exactly_the_share_is_hidden_and_nothing_else_touched(tokens, share, mean, seed):
    ids = np.array(tokens, np.int64)
    rng = np.random.default_rng(seed)
    noisy, spans = infill(ids, rng, mask_id=MASK, share=share, mean_length=mean)
    hidden = [int(token) for span in spans for token in span]
    assert len(hidden) == round(share * len(ids))
    assert (noisy == MASK).sum() == len(spans)
    assert len(noisy) == len(ids) - len(hidden) + len(spans)
    assert not set(noisy.tolist()) & set(hidden)
    assert restore(noisy, spans, MASK) == tokens


def test_span_lengths_are_poisson():
    mean, n = 3.0, 60_000
    lengths = span_lengths(n, np.random.default_rng(0), mean_length=mean)[:-1]
    count = len(lengths)
    for k in range(9):
        share = math.exp(-mean) * mean**k / math.factorial(k)
        assert abs((lengths == k).mean() - share) < 4 * (share * (1 - share) / count) ** 0.5, k


def test_a_span_of_length_0_is_a_mask_that_hides_nothing():
    found = [infill(np.arange(10, 40), np.random.default_rng(s), mask_id=MASK) for s in range(200)]
    empty = [spans for _, spans in found if any(len(span) == 0 for span in spans)]
    assert len(empty) > 20


def test_every_layout_is_equally_likely():
    """One token of 4 hidden, always as one span of length 1: 4 places."""

    def draw(s):
        return infill(
            np.arange(10, 14), np.random.default_rng(s), mask_id=MASK, share=0.25, mean_length=50.0
        )[0]

    layouts, counts = np.unique([draw(s) for s in range(2000)], axis=0, return_counts=True)
    assert len(layouts) == 4
    assert np.abs(counts - 500).max() < 4 * (500 * 3 / 4) ** 0.5


def test_a_mean_of_0_is_refused():
    with pytest.raises(ValueError, match="longer than 0 on average"):
        span_lengths(5, np.random.default_rng(0), mean_length=0)


def test_a_batch_asks_for_the_whole_text_and_no_padding():
    rows = Keyed([{"input_ids": [1, *range(10, 10 + n), 2]} for n in (40, 25, 33)])
    collate = TextInfillingCollator(mask_id=MASK, pad_id=0, seed=3)
    batch = collate([rows[i] for i in range(3)])
    texts = [row[row != IGNORE].tolist() for row in batch["labels"]]
    assert texts == [rows[i]["input_ids"] for i in range(3)]
    for inputs, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        assert (inputs[mask == 0] == 0).all() and (inputs == MASK).any()
    assert (collate([rows[i] for i in range(3)])["input_ids"] == batch["input_ids"]).all()
    other = collate([rows[(1, i)] for i in range(3)])
    assert other["input_ids"].tolist() != batch["input_ids"].tolist()
