"""Spans of other rows are found by what their tokens are; true ones of any place are let be."""

import numpy as np
import pytest

from cookbook.doctor import span_alignment_probes
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def rows(count=300, seed=0, answer=(7, 8, 9), typed=True):
    """Ids where the answer begins at a token of a small kind, anywhere in the text."""
    draw, found = np.random.default_rng(seed), []
    for _ in range(count):
        length = int(draw.integers(16, 40))
        text = draw.integers(20, 300, length)
        place = int(draw.integers(0, length - 1))
        text[place] = draw.choice(answer)
        ids = [1, *draw.integers(20, 300, 4), 2, *text, 2]
        row = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        row |= {"token_type_ids": [0] * 6 + [1] * (len(ids) - 6)} if typed else {}
        found.append(row | {"start_positions": 6 + place, "end_positions": 7 + place})
    return found


def joined_by_a_wrong_key(data):
    order = np.random.default_rng(1).permutation(len(data))
    names = ("start_positions", "end_positions")
    return [row | {k: data[i][k] for k in names} for row, i in zip(data, order, strict=True)]


def found(data):
    said, why = attempt(span_alignment_probes.check_spans_belong, Subject(None, train_dataset=data))
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said]


@pytest.mark.parametrize("typed", [True, False])
def test_spans_of_other_rows(typed):
    data = rows(typed=typed)
    assert found(data) == []
    assert found(joined_by_a_wrong_key(data)) == [("D8", "warn")]


def test_a_weak_sign_in_many_rows_is_enough_to_be_quiet():
    assert found(rows(600, answer=range(20, 60))) == []


def test_few_rows_say_nothing():
    assert found(joined_by_a_wrong_key(rows(120))) == []
