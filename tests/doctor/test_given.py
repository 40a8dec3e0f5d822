"""What is neither model nor rows is refused in one line; several evaluation sets are one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict
from torch import nn

from cookbook.doctor import examine

ROWS = [{"input_ids": [1, 2, 3], "labels": i % 2} for i in range(4)]
MODEL = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("train.csv", "is a str 'train.csv': give rows; cookbook.data.load"),
        (Path("train.csv"), "give rows; cookbook.data.load"),
        (pd.DataFrame({"text": ["a"]}), "is a DataFrame: give rows: datasets.Dataset.from_pandas"),
        (torch.zeros(4, 2), "is a Tensor: give pairs or dicts"),
        (np.zeros((4, 2)), "is a ndarray: give pairs or dicts"),
        ({"input_ids": torch.zeros(4, 3), "labels": torch.zeros(4)}, "is a dict: give rows"),
        ({"text": ["a", "b"], "label": [0, 1]}, "Dataset.from_dict"),
        (DatasetDict(train=Dataset.from_list(ROWS)), "is a DatasetDict: give one of its splits"),
    ],
)
def test_what_is_no_rows_is_refused_in_one_line(rows, message):
    with pytest.raises(TypeError, match=message) as caught:
        examine(MODEL, train_dataset=rows)
    assert "train_dataset" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["docbert", 3, {"model": MODEL}])
def test_what_is_no_model_is_refused_in_one_line(model):
    with pytest.raises(TypeError, match="takes a torch.nn.Module or a transformers Trainer"):
        examine(model)


def test_of_several_evaluation_sets_the_first_is_read():
    pairs = [(torch.zeros(2), i % 2) for i in range(4)]
    report = examine(MODEL, train_dataset=pairs, eval_dataset={"one": pairs, "two": pairs})
    assert not [why for why in report.not_checked.values() if "failed" in why]
    assert examine(MODEL, eval_dataset=DatasetDict(news=Dataset.from_list(ROWS))).healthy


def test_a_set_without_rows_is_told():
    report = examine(MODEL, train_dataset=[], loss_fn=nn.CrossEntropyLoss())
    assert report.not_checked["train_dataset"] == "it has no rows"
    assert "train_dataset" not in examine(MODEL).not_checked
