import types

import numpy as np
import pytest
import torch
import transformers
from torch.utils.data import DataLoader, IterableDataset, Sampler

from cookbook.doctor import row_checks
from cookbook.doctor.checks import Skip
from cookbook.doctor.subject import Subject


def found(check, subject):
    try:
        return [(f.fault, f.severity) for f in check(subject)]
    except Skip:
        return []


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
