"""D8 of evaluation rows: labels of other rows; true ones and rows of another kind are let be."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from cookbook.doctor import examination, held_out_label_probes, preserve
from cookbook.doctor.subject import Subject


def found(model, train, evaluation, **given):
    subject = Subject(model, train_dataset=train, eval_dataset=evaluation, **given)
    with preserve.everything(model):
        said, why = examination.attempt(held_out_label_probes.check_held_out_labels_belong, subject)
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said], why


def sentences(tokenizer, count, seed, words="the solver computes two tensors and returns an array"):
    draw, rows = np.random.default_rng(seed), []
    for _ in range(count):
        label = int(draw.integers(0, 2))
        text = draw.choice(words.split(), 10)
        text[draw.integers(0, 10)] = ["gradient", "median"][label]
        rows.append(dict(tokenizer(" ".join(text))) | {"labels": label})
    return rows


def shuffled(rows):
    labels = np.random.default_rng(1).permutation([row["labels"] for row in rows])
    return [row | {"labels": int(label)} for row, label in zip(rows, labels, strict=True)]


def test_evaluation_labels_of_other_rows(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    given = {"processing_class": tokenizer}
    train, held = sentences(tokenizer, 320, 0), sentences(tokenizer, 160, 1)
    assert found(model, train, shuffled(held), **given)[0] == [("D8", "warn")]
    assert found(model, train, held, **given) == ([], "")
    assert found(model, shuffled(train), held, **given)[0] == []  # `alignment_probes` tells it


def test_too_few_rows_and_no_evaluation_are_left_alone(tiny_bert, tokenizer):
    model = tiny_bert("BertForSequenceClassification", num_labels=2)
    train = sentences(tokenizer, 320, 0)
    for held in (None, shuffled(sentences(tokenizer, 40, 1))):
        assert found(model, train, held, processing_class=tokenizer) == ([], "does not apply")


def digits(first, count, change=lambda x: x, shuffle=False):
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float()[first : first + count].reshape(-1, 1, 8, 8) / 16
    y = labels[first : first + count]
    y = np.random.default_rng(0).permutation(y) if shuffle else y
    return list(zip(change(x), y.tolist(), strict=True))


@pytest.mark.parametrize(
    ("change", "shuffle", "expected"),
    [
        (lambda x: x, True, [("D8", "warn")]),
        (lambda x: x, False, []),
        (lambda x: x + 0.1 * torch.randn_like(x), False, []),
        (lambda x: 1 - x, False, []),  # rows of another kind: a test of robustness
    ],
)
def test_digits_as_pairs(change, shuffle, expected):
    model, loss = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), nn.functional.cross_entropy
    given = digits(0, 600), digits(600, 300, change, shuffle)
    assert found(model, *given, loss_fn=loss)[0] == expected
