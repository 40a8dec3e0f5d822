import math
import types

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Sampler

from cookbook.doctor import row_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


# -- D9 ------------------------------------------------------------------------------------------


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
    assert found(row_checks.check_rows_hold_something, subject) == expected


def test_missing_values_that_the_model_handles_are_meant():
    class Fills(nn.Linear):
        def forward(self, x):
            return super().forward(torch.nan_to_num(x))

    given = {"train_dataset": features(math.nan), "loss_fn": nn.functional.cross_entropy}
    assert found(row_checks.check_rows_hold_something, Subject(Fills(4, 2), **given)) == []
    plain = Subject(nn.Linear(4, 2), **given)
    assert found(row_checks.check_rows_hold_something, plain) == [("D9", "error")]


@pytest.mark.parametrize(("empty", "expected"), [(0, []), (1, [("D9", "error")])])
def test_rows_without_attention(tokenizer, empty, expected):
    rows = [dict(tokenizer("a copy of two")) for _ in range(200)]
    for row in rows[:empty]:
        row["attention_mask"] = [0] * len(row["input_ids"])
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    assert found(row_checks.check_rows_hold_something, subject) == expected


@pytest.mark.parametrize(("first", "expected"), [(0, [("D9", "error")]), (1, [])])
def test_a_collator_that_hides_a_row_altogether(tokenizer, first, expected):
    def collate(rows):
        batch = tokenizer.pad(rows, return_tensors="pt")
        batch["attention_mask"][0] *= first
        return batch

    rows = [dict(tokenizer("a copy of two")) for _ in range(32)]
    subject = Subject(None, train_dataset=rows, data_collator=collate)
    assert found(row_checks.check_rows_hold_something, subject) == expected


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize(("empty", "expected"), [(1, []), (8, [("D9", "warn")])])
def test_empty_texts(tokenizer, empty, expected, encoded):
    texts = [" "] * empty + ["a copy of two tensors"] * (200 - empty)
    rows = [dict(tokenizer(t)) if encoded else {"text": t, "label": 0} for t in texts]
    subject = Subject(None, train_dataset=rows, processing_class=tokenizer)
    assert found(row_checks.check_rows_hold_something, subject) == expected


# -- D5 ------------------------------------------------------------------------------------------


def labelled(order, classes=4, count=400):
    labels = [i * classes // count if order == "sorted" else i % classes for i in range(count)]
    if order == "shuffled":
        labels = np.random.default_rng(0).permutation(labels).tolist()
    return [(torch.full((3,), float(i)), y) for i, y in enumerate(labels)]


def order(train, **more):
    return found(row_checks.check_order_is_mixed, Subject(None, train_dataset=train, **more))


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_sorted_rows_in_their_order(size):
    def loader(rows, shuffle=False):
        return DataLoader(rows, batch_size=size, shuffle=shuffle)

    assert order(loader(labelled("sorted"))) == [("D5", "warn")]
    assert order(loader(labelled("sorted"), shuffle=True)) == []
    assert order(loader(labelled("shuffled"))) == []
    assert order(loader(labelled("alternating"))) == []
    assert order(loader(labelled("shuffled", classes=100))) == []
    imbalanced = [(x, int(i % 50 == 0)) for i, (x, _) in enumerate(labelled("sorted"))]
    assert order(loader(imbalanced)) == []


def test_an_order_that_nobody_said_is_shuffled():
    assert order(labelled("sorted")) == []
    args = types.SimpleNamespace(train_sampling_strategy="random", per_device_train_batch_size=8)
    assert order(labelled("sorted"), args=args) == []
    args.train_sampling_strategy = "sequential"
    assert order(labelled("sorted"), args=args) == [("D5", "warn")]
    args.gradient_accumulation_steps = 50  # a step sees all classes
    assert order(labelled("sorted"), args=args) == []


def test_a_large_sorted_file_is_seen_in_windows():
    assert order(DataLoader(labelled("sorted", count=20_000), batch_size=8)) == [("D5", "warn")]


def test_numbers_are_sorted_by_their_quantiles():
    values = np.random.default_rng(0).normal(size=400).astype(np.float32)
    for y, expected in ((np.sort(values), [("D5", "warn")]), (values, [])):
        rows = [(torch.zeros(3), torch.tensor(v)) for v in y]
        assert order(DataLoader(rows, batch_size=8)) == expected


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def test_streams_are_read_as_they_come():
    assert order(Stream(labelled("sorted"))) == [("D5", "warn")]
    assert order(Stream(labelled("shuffled"))) == []
    # So long that the first class fills all that is read: evaluation knows the others.
    long = Stream(labelled("sorted", count=20_000))
    assert order(long, eval_dataset=labelled("shuffled")) == [("D5", "warn")]
    one_class = Stream([(torch.zeros(3), 0)] * 400)
    assert order(one_class) == []


class Own(Sampler):
    def __init__(self, size, shuffles):
        self.size, self.shuffles = size, shuffles

    def __iter__(self):
        return iter(torch.randperm(self.size).tolist() if self.shuffles else range(self.size))

    def __len__(self):
        return self.size


@pytest.mark.parametrize(("shuffles", "expected"), [(True, []), (False, [("D5", "warn")])])
def test_a_sampler_of_the_readers_own_is_asked(shuffles, expected):
    assert order(DataLoader(labelled("sorted"), sampler=Own(400, shuffles))) == expected


@pytest.mark.parametrize(
    ("strategy", "expected"), [("random", []), ("sequential", [("D5", "warn")])]
)
def test_a_trainer_says_its_order(tiny_bert, tokenizer, tmp_path, strategy, expected):
    rows = [dict(tokenizer("a copy")) | {"labels": i // 100} for i in range(400)]
    args = transformers.TrainingArguments(
        tmp_path, report_to="none", use_cpu=True, train_sampling_strategy=strategy
    )
    model = tiny_bert("BertForSequenceClassification", num_labels=4)
    trainer = transformers.Trainer(model, args, train_dataset=rows, processing_class=tokenizer)
    subject = Subject(model, train_dataset=rows, args=args, trainer=trainer)
    assert found(row_checks.check_order_is_mixed, subject) == expected


# -- D4 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rare", "expected"), [(2, [("D4", "info")]), (30, []), (0, [])])
def test_one_class_nearly_everywhere_is_advice(rare, expected):
    rows = [{"text": "a", "label": "spam" if i < rare else "ham"} for i in range(100)]
    assert found(row_checks.check_classes_are_balanced, Subject(None, train_dataset=rows)) == (
        expected
    )


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
        return found(row_checks.check_rows_hold_something, subject)

    assert faults(rows(4)) == [("D9", "warn")] and faults(rows(0)) == []
    pictures = [row | {"pixel_values": torch.randn(3), "source": "x"} for row in rows(4)]
    assert faults(pictures) == []  # ids that begin a caption
