"""A cell comes back as it went, under its own fingerprint and no other."""

import numpy as np
import pytest
from datasets import DatasetDict

from cookbook.finetuning import cells, freezing, peft_methods, strategies
from cookbook.finetuning.results import Result

SCORES = {"accuracy": 0.5, "f1": 0.4, "mcc": 0.1}


@pytest.fixture
def result():
    return Result(
        "lora", 2, 1e-3, SCORES, SCORES, np.array([1, 0]), np.array([1, 1]), 3.5, 10, 4,
        [(1, 0.7), (5, 0.6)], object(), 3, 400, 900,
    )  # fmt: skip


def test_a_cell_comes_back_as_it_went_but_for_the_model(result, tmp_path):
    path = tmp_path / "deep" / "lora-2.json"
    cells.write(path, result, "abc")
    kept = cells.read(path, "abc")
    assert kept.model is None and np.isnan(kept.remembers)
    for name in ("name", "seed", "learning_rate", "validation", "test", "seconds", "parameters",
                 "trainable", "history", "rates_tried", "size", "peak"):  # fmt: skip
        assert getattr(kept, name) == getattr(result, name), name
    assert np.array_equal(kept.predictions, result.predictions)
    assert kept.right.tolist() == [True, False]


def test_another_fingerprint_or_a_torn_file_is_no_cell(result, tmp_path):
    path = tmp_path / "lora-2.json"
    assert cells.read(path, "abc") is None
    cells.write(path, result, "abc")
    assert cells.read(path, "abd") is None
    for content in (path.read_text()[:-40], "[1]", '{"fingerprint": "abc", "history": []}'):
        path.write_text(content)
        assert cells.read(path, "abc") is None


def test_the_data_key_sees_texts_labels_order_and_splits(labelled):
    key, train = cells.data_key(labelled), labelled["train"]
    assert key == cells.data_key(DatasetDict({**labelled}))
    turned = train.map(lambda row, i: {"label": (row["label"] + (i == 7)) % 3}, with_indices=True)
    for other in (turned, train.select(range(47)), train.select(range(47, -1, -1))):
        assert cells.data_key(DatasetDict({**labelled, "train": other})) != key


def test_the_code_key_sees_the_strategys_own_file(monkeypatch):
    key = cells.code_key(peft_methods.lora)
    assert key == cells.code_key(peft_methods.lora) != cells.code_key(freezing.partial)
    read, home = cells.inspect.getsource, cells.inspect.getmodule(peft_methods.lora)
    change = "\n# a remark"
    monkeypatch.setattr(
        cells.inspect, "getsource", lambda part: read(part) + (change if part is home else "")
    )
    assert cells.code_key(peft_methods.lora) == key
    change = "\nTOKENS = 11"
    assert cells.code_key(peft_methods.lora) != key


def test_every_registered_strategy_has_a_code_key():
    keys = {name: cells.code_key(function) for name, function in strategies.STRATEGIES.items()}
    assert len(set(keys.values())) >= 6


def test_the_model_key_goes_by_content(checkpoint, tmp_path):
    import shutil

    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert cells.model_key(str(copy)) == cells.model_key(checkpoint)
