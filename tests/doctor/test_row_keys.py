import numpy as np
import pytest
import torch

from cookbook.doctor.row_keys import input_key, label, number, scalar_label, text_columns, text_of

IDS = [2, 11, 12, 13, 14, 15, 3]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"text": "A  solver that has tensors"}, {"text": "a solver that has TENSORS "}),
        ({"text": "Return the sum of all.", "module": "numpy"},
         {"text": "Return the sum of all.", "module": "torch.functional"}),
        ({"text": "the same five words here", "label": 0},
         {"text": "the same five words here", "label": 1}),
        ({"input_ids": IDS}, {"input_ids": [*IDS, 0, 0], "attention_mask": [1] * 7 + [0] * 2}),
        ({"input_ids": torch.tensor(IDS)}, {"input_ids": np.array(IDS)}),
        ({"pixel_values": torch.arange(9.0)}, {"pixel_values": np.arange(9, dtype=np.float32)}),
        ((torch.arange(9.0), 1), [torch.arange(9.0), 2]),
        ({"text": "一个没有空格的句子也是句子"}, {"text": "一个没有空格的句子也是句子"}),
    ],
)  # fmt: skip
def test_equal_inputs_have_equal_keys(one, other):
    assert input_key(one) is not None and input_key(one) == input_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"text": "the solver computes two tensors"}, {"text": "the solver computes six tensors"}),
        ({"question": "what does it do here", "context": "a long one"},
         {"question": "why does it do that", "context": "a long one"}),
        ({"input_ids": IDS}, {"input_ids": IDS[::-1]}),
        ((torch.arange(9.0), 1), (torch.arange(1.0, 10.0), 1)),
    ],
)  # fmt: skip
def test_different_inputs_have_different_keys(one, other):
    assert input_key(one) != input_key(other)


@pytest.mark.parametrize(
    "row",
    [{"text": "too few"}, {"input_ids": [1, 2]}, {"input_ids": []}, (torch.zeros(64), 1), {}, 7,
     {"label": 3}, (torch.arange(3.0), 1)],
)  # fmt: skip
def test_too_little_has_no_key(row):
    assert input_key(row) is None


def test_special_tokens_do_not_count():
    assert input_key({"input_ids": IDS}, frozenset({2, 3})) == input_key({"input_ids": IDS[1:-1]})


def test_columns_of_text_are_neither_labels_nor_names():
    row = {"text": "a", "text_pair": "b", "label": "good", "row_id": "7", "path": "x", "n": 1}
    assert text_columns(row) == ["text", "text_pair"] and text_of({"n": 1}) is None


def test_the_label_of_a_row():
    assert label({"labels": torch.tensor(3)}) == 3 and label({"label": "good"}) == "good"
    assert label((0.0, np.int64(2))) == 2 and label({"labels": [1, 0]}) == (1, 0)
    assert label({"label": 0.5}) is None and label({"text": "a"}) is None
    assert scalar_label({"labels": [1, 0]}) is None
    assert number((0, torch.tensor(0.5))) == 0.5 and number({"label": float("nan")}) is None
    assert number({"labels": torch.tensor([3])}) == 3 and number({"labels": [1, 2]}) is None
