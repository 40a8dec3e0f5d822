"""Oracles point where their labels do, in the shape of the task; causal ones a place before."""

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.doctor import oracles
from cookbook.doctor.subject import Subject


def test_classes_are_pointed_at():
    oracle = oracles._classes(np.array([0, 2, 1]), 3)
    assert oracle.perfect.argmax(-1).tolist() == [0, 2, 1]
    assert oracle.wrong.argmax(-1).tolist() == [1, 0, 2]
    assert oracle.constant.argmax(-1).tolist() == [0, 0, 0]


def test_a_causal_oracle_stands_one_place_before_its_labels():
    labels = np.array([[-100, 4, 5, 6]])
    own, made_up = oracles._sequences(labels, 9, shift=1)
    assert own.perfect.argmax(-1)[0, :3].tolist() == [4, 5, 6]
    assert (own.wrong.argmax(-1)[0, :3] == np.array([5, 6, 7])).all()
    assert np.array_equal(made_up.labels < 0, labels < 0)


def test_what_is_ignored_differs_and_what_counts_does_not():
    labels = np.array([[1, -100, 2, -100, 3, -100]])
    own, _ = oracles._sequences(labels, 50, shift=0)
    one, other = own.perfect.argmax(-1), own.perfect_otherwise.argmax(-1)
    counted = labels >= 0
    assert (one == other)[counted].all() and (one != other)[~counted].any()


def test_numbers_and_flags():
    numbers = oracles._numbers(np.array([1.0, 2.0, 4.0]), (4, 1))
    assert numbers.perfect.shape == (3, 1) and (numbers.wrong != numbers.perfect).all()
    flags = oracles._flags(np.array([[0.0, 1.0]]))
    assert flags.perfect.tolist() == [[-10.0, 10.0]]


@pytest.mark.parametrize(("labels", "count"), [([0, 1, 2, 0], 2), ([1, 1, 1, 1], 1)])
def test_labels_of_all_rows_and_made_up_ones(labels, count):
    dataset = [(torch.randn(3), label) for label in labels]
    made = list(oracles.of(Subject(nn.Linear(3, 3), eval_dataset=dataset)))
    assert len(made) == count
    assert sorted(set(made[-1].labels)) == [0, 1, 2]


def test_one_logit_for_two_classes_is_no_number():
    dataset = [(torch.randn(3), torch.tensor([float(i % 2)])) for i in range(8)]
    oracle, number = oracles.of(Subject(nn.Linear(3, 1), eval_dataset=dataset))
    assert set(np.unique(oracle.perfect)) == {-10.0, 10.0}
    assert set(np.unique(number.perfect)) == {0.0, 1.0}  # or it is one: a flaw must show in both


def test_a_head_of_one_number_is_no_logit_where_the_library_squares(tiny_bert):
    rows = [{"input_ids": [2, 5, 6, 3], "labels": float(i % 2)} for i in range(8)]
    model = tiny_bert("BertForSequenceClassification", num_labels=1)
    (number,) = oracles.of(Subject(model, eval_dataset=rows))
    assert set(np.unique(number.perfect)) == {0.0, 1.0}


def test_words():
    assert oracles.words("eval_macro-F1") == {"eval", "macro", "f1"}
