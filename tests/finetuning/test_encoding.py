"""Rows in, answers out: in order, and the same however they were batched."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Value

from cookbook.data.errors import DataError
from cookbook.finetuning.encoding import (
    check_splits,
    classes_of,
    encode_rows,
    mean_pool,
    predict,
)
from cookbook.models.initialization import load_model, load_tokenizer


@pytest.fixture
def parts(checkpoint, labelled):
    tokenizer = load_tokenizer(checkpoint)
    model = load_model(checkpoint, "classification", num_labels=3)
    return model, encode_rows(labelled["train"], tokenizer, 64), tokenizer


def test_rows_are_cut_and_carry_their_label(labelled, parts):
    _, rows, tokenizer = parts
    assert [row["labels"] for row in rows] == labelled["train"]["label"]
    assert tokenizer.decode(rows[0]["input_ids"], skip_special_tokens=True).startswith(
        "solver solver"
    )
    cut = encode_rows(labelled["train"], tokenizer, 5)
    assert {len(row["input_ids"]) for row in cut} == {5}
    assert all(row["input_ids"][-1] == tokenizer.sep_token_id for row in cut)


def test_pairs_are_joined(parts):
    tokenizer = parts[2]
    pairs = Dataset.from_dict({"text": ["the solver"], "text_pair": ["a copy"], "label": [0]})
    (row,) = encode_rows(pairs, tokenizer, 64)
    assert row["input_ids"].count(tokenizer.sep_token_id) == 2
    assert 1 in row["token_type_ids"]


@pytest.mark.parametrize("features", [False, True])
def test_batching_and_order_change_nothing(parts, features):
    model, rows, tokenizer = parts
    model = model.bert if features else model
    found = predict(model, rows, tokenizer, features=features)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = predict(model, [rows[i] for i in order], tokenizer, features=features)
    np.testing.assert_allclose(shuffled, found[order], rtol=1e-5, atol=1e-6)
    single = predict(model, rows, tokenizer, batch_size=1, features=features)
    np.testing.assert_allclose(single, found, rtol=1e-5, atol=1e-6)


def test_rows_without_labels_can_be_asked(parts):
    model, rows, tokenizer = parts
    bare = [{k: v for k, v in row.items() if k != "labels"} for row in rows]
    assert np.array_equal(predict(model, bare, tokenizer), predict(model, rows, tokenizer))


def test_mean_pool_of_an_empty_row_is_zero():
    assert mean_pool(torch.ones(1, 2, 3), torch.zeros(1, 2)).tolist() == [[0, 0, 0]]


def test_numbers_are_no_classes(labelled):
    assert classes_of(labelled) == ["solver", "matrix", "estimator"]
    numbers = DatasetDict(train=labelled["train"].cast_column("label", Value("float32")))
    with pytest.raises(DataError, match="the data has a number where a classifier needs classes"):
        classes_of(numbers)


def test_rows_whose_labels_are_kept_back_are_refused(labelled):
    assert check_splits(labelled) is labelled
    hidden = labelled["test"].map(lambda row: {"label": -1})
    with pytest.raises(DataError, match=r"the test split has rows without a label \(-1\)"):
        check_splits(DatasetDict({**labelled, "test": hidden}))
