import types

import torch
from torch.utils.data import DataLoader

from cookbook.doctor import trainer_taps


def test_nobody_calls():
    assert trainer_taps.calling_trainer() is None and trainer_taps.resumed_from() is None
    assert trainer_taps.undisturbed(None).__enter__() is None


def test_the_subject_without_a_trainer_comes_from_the_loader():
    loader = DataLoader([1, 2, 3], batch_size=2)
    given = {"model": torch.nn.ReLU(), "train_dataloader": loader, "optimizer": None}
    held = trainer_taps.subject_of(None, None, given)
    assert held["train_dataset"] == [1, 2, 3] and held["data_collator"] is loader.collate_fn
    many = types.SimpleNamespace(eval_dataset={"a": [{"x": 1}], "b": [{"x": 2}]})
    assert trainer_taps.subject_of(None, many, given)["eval_dataset"] == [{"x": 1}]


def test_rows_of_a_loader_that_does_not_know():
    assert trainer_taps.rows_of(DataLoader([1, 2])) == 2
    assert trainer_taps.rows_of(None) is None


def test_a_compiled_model_is_hooked_outside():
    inner = torch.nn.Linear(2, 2)
    wrapped = types.SimpleNamespace(_orig_mod=inner)
    assert trainer_taps.called_model(types.SimpleNamespace(model_wrapped=wrapped), inner) is wrapped
    assert trainer_taps.called_model(None, inner) is inner
