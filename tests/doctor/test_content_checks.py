import math

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.doctor import content_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


def features(bad=None, count=64):
    x = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    if bad is not None:
        x[3, 2] = bad
    return [(row, i % 2) for i, row in enumerate(x)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (features(), []),
        (features(math.nan), [("D9", "error")]),
        (features(math.inf), [("D9", "error")]),
        ([{"pixel_values": np.full((2, 2), np.nan)}] * 4, [("D9", "error")]),
        ([{"features": [0.5, float("nan")], "label": 1}] * 4, [("D9", "error")]),
        ([{"x": torch.zeros(2), "labels": float("nan")}] * 4, [("D9", "error")]),
        ([{"x": torch.zeros(2), "bias": torch.tensor([0.0, -math.inf])}] * 4, []),
        ([{"input_ids": [1, 2], "attention_mask": [1, 1], "n": None}] * 4, []),
    ],
)
def test_numbers_that_are_not_finite(rows, expected):
    collator = lambda rows: {}  # noqa: E731
    subject = Subject(None, train_dataset=rows, data_collator=collator)
    assert found(content_checks.check_rows_hold_something, subject) == expected


def test_missing_values_that_the_model_handles_are_meant():
    class Fills(nn.Linear):
        def forward(self, x):
            return super().forward(torch.nan_to_num(x))

    given = {"train_dataset": features(math.nan), "loss_fn": nn.functional.cross_entropy}
    assert found(content_checks.check_rows_hold_something, Subject(Fills(4, 2), **given)) == []
    plain = Subject(nn.Linear(4, 2), **given)
    assert found(content_checks.check_rows_hold_something, plain) == [("D9", "error")]


@pytest.mark.parametrize(("empty", "expected"), [(0, []), (1, [("D9", "error")])])
def test_rows_without_attention(tokenizer, empty, expected):
    rows = [dict(tokenizer("a copy of two")) for _ in range(200)]
    for row in rows[:empty]:
        row["attention_mask"] = [0] * len(row["input_ids"])
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    assert found(content_checks.check_rows_hold_something, subject) == expected


@pytest.mark.parametrize(("first", "expected"), [(0, [("D9", "error")]), (1, [])])
def test_a_collator_that_hides_a_row_altogether(tokenizer, first, expected):
    def collate(rows):
        batch = tokenizer.pad(rows, return_tensors="pt")
        batch["attention_mask"][0] *= first
        return batch

    rows = [dict(tokenizer("a copy of two")) for _ in range(32)]
    subject = Subject(None, train_dataset=rows, data_collator=collate)
    assert found(content_checks.check_rows_hold_something, subject) == expected


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize(("empty", "expected"), [(1, []), (8, [("D9", "warn")])])
def test_empty_texts(tokenizer, empty, expected, encoded):
    texts = [" "] * empty + ["a copy of two tensors"] * (200 - empty)
    rows = [dict(tokenizer(t)) if encoded else {"text": t, "label": 0} for t in texts]
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    assert found(content_checks.check_rows_hold_something, subject) == expected


@pytest.mark.parametrize(("blank", "expected"), [(40, []), (120, [("D9", "warn")])])
@pytest.mark.parametrize("named", [False, True])
def test_pictures_of_one_value(blank, expected, named):
    grids = [torch.zeros(1, 8, 8)] * blank + [torch.rand(1, 8, 8) for _ in range(200 - blank)]
    rows = [{"pixel_values": x, "labels": 0} if named else (x, 0) for x in grids]
    subject = Subject(None, train_dataset=rows)
    assert found(content_checks.check_rows_hold_something, subject) == expected


def test_a_table_of_equal_features_is_no_picture():
    rows = [(torch.full((64,), float(i)), 0) for i in range(40)]
    assert found(content_checks.check_rows_hold_something, Subject(None, train_dataset=rows)) == []


def test_one_input_for_all_rows_is_told_where_labels_differ():
    def told(*labels, inputs=None):
        rows = [(torch.zeros(64), y) for y in labels] if inputs is None else inputs
        subject = Subject(None, train_dataset=rows)
        return found(content_checks.check_rows_hold_something, subject)

    assert told(*[0, 1] * 20) == [("D9", "warn")]
    assert told(*[1] * 40) == []  # one row, repeated to see whether it can be fitted
    assert told(inputs=[(torch.eye(40)[i], i % 2) for i in range(40)]) == []


def test_what_a_tokenizer_left_of_white_space_is_empty(tokenizer):
    """The row keeps its target and its name beside an input of nothing."""

    def rows(blank):
        kept = [
            {"source": "x", "target": "the sum", **tokenizer("Return the sum")} for _ in range(40)
        ]
        empty = {"source": " ", "target": "the sum", **tokenizer("  \n ")}
        return kept + [empty] * blank

    def faults(data):
        subject = Subject(None, train_dataset=data, processing_class=tokenizer)
        return found(content_checks.check_rows_hold_something, subject)

    assert faults(rows(4)) == [("D9", "warn")] and faults(rows(0)) == []
    pictures = [row | {"pixel_values": torch.randn(3), "source": "x"} for row in rows(4)]
    assert faults(pictures) == []  # ids that begin a caption


@pytest.mark.parametrize(("empty", "expected"), [(1, []), (8, [("D9", "warn")])])
@pytest.mark.parametrize(
    "first, second, found_in",
    [("text_ids", "pair_ids", True), ("query_ids", "negative_ids", False),
     ("premise", "hypothesis", True), ("instruction", "input", False)],
)  # fmt: skip
def test_pairs_of_which_one_text_is_empty(tokenizer, first, second, found_in, empty, expected):
    texts = ["a copy of two tensors", ""]
    if first.endswith("_ids"):
        texts = [tokenizer(text)["input_ids"] for text in texts]
    rows = [{first: texts[0], second: texts[place < empty], "segment_ids": [0] * 4}
            for place in range(200)]  # fmt: skip
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    said = found(content_checks.check_rows_hold_something, subject)
    assert said == (expected if found_in else [])


@pytest.mark.parametrize(
    ("texts", "empty", "expected"),
    [
        (("a copy", "the solver computes two"), ("a copy", ""), [("D9", "warn")]),
        (("a copy", "the solver computes two"), ("", "the solver"), [("D9", "warn")]),
        (("a copy", "the solver computes two"), ("a copy", "ß"), []),  # unknown is not empty
        (("a copy of the solver",), ("a copy",), []),  # a reader that asks one question only
        (("a copy",), ("a copy", "the solver"), []),  # most rows are one text
    ],
)
def test_readers_of_an_empty_context(tokenizer, texts, empty, expected):
    def of(few, more=None):
        places = {} if more else {"start_positions": 0, "end_positions": 0}
        rows = [dict(tokenizer(*(empty if i < few else texts))) | places for i in range(200)]
        subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
        return found(content_checks.check_rows_hold_something, subject)

    assert of(20) == expected and of(1) == []
    assert of(20, more=True) == []  # one text or two to classify, as they come
