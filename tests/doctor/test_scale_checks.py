"""Splits of two scales are D6; splits of two domains are not."""

import pytest
import torch

from cookbook.doctor import scale_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def pictures(change=lambda x: x, named=False, count=40, shape=(1, 8, 8), seed=0):
    x = change(torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)))
    return [{"pixel_values": one, "labels": 0} if named else (one, 0) for one in x]


def found(train, evaluation):
    subject = Subject(None, train_dataset=train, eval_dataset=evaluation)
    said, why = attempt(scale_checks.check_splits_have_one_scale, subject)
    assert not why.startswith("failed"), why
    return [(f.fault, f.severity) for f in said]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, []),
        (lambda x: 1 - 0.6 * x, []),  # darker, brighter, inverted: another camera
        (lambda x: x + 0.3 * torch.randn_like(x), []),
        (lambda x: 255 * x, [("D6", "warn")]),
        (lambda x: (255 * x).to(torch.uint8), [("D6", "warn")]),
        (lambda x: (x - 0.5) / 0.03, [("D6", "warn")]),
    ],
)
def test_pictures_of_two_scales(change, expected, named):
    assert found(pictures(named=named), pictures(change, named, seed=1)) == expected


def test_a_table_standardised_once():
    features = {"shape": (5,)}
    train = pictures(lambda x: (x - x.mean(0)) / x.std(0), **features)
    assert found(train, pictures(lambda x: x * 1000, **features, seed=1)) == [("D6", "warn")]
    assert found(train, pictures(lambda x: (x - x.mean(0)) / x.std(0), **features, seed=1)) == []


def test_texts_and_single_splits_are_left_alone():
    texts = [{"input_ids": [1, 2, 3], "labels": 0}] * 40
    assert found(texts, texts) == []
    assert found(pictures(), None) == []
