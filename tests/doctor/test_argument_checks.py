"""K3, O4, E2, P4: arguments that contradict data and schedule are found; usual ones are not."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from torch.optim import lr_scheduler as schedules
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from cookbook.doctor import argument_checks
from cookbook.doctor.checks import attempt
from cookbook.doctor.subject import Subject


def verdicts(check, model=None, **given):
    subject = Subject(model or nn.Linear(2, 2), **given)
    found, reason = attempt(getattr(argument_checks, f"check_{check}"), subject)
    assert "failed" not in reason
    return [(one.fault, one.severity) for one in found]


def arguments(tmp_path, **settings):
    settings = {"report_to": [], "use_cpu": True, "max_steps": 100} | settings
    return transformers.TrainingArguments(output_dir=str(tmp_path), **settings)


BEST = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 10,
        "save_steps": 20}  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "greater", "fault"),
    [
        ("accuracy", False, True), ("loss", True, True), ("eval_rmse", None, True),
        ("perplexity", True, True), ("macro-f1", False, True), ("wer", None, True),
        ("accuracy", True, False), ("eval_loss", False, False), ("f1", None, False),
        (None, None, False), ("rmse", False, False), ("throughput", False, False),
        ("eval_validation_accuracy", None, False), ("error_free_accuracy", False, False),
    ],
)  # fmt: skip
def test_the_direction_of_the_best(tmp_path, metric, greater, fault):
    args = arguments(tmp_path, metric_for_best_model=metric, greater_is_better=greater, **BEST)
    expected = [("K3", "error")] if fault else []
    assert verdicts("best_checkpoint_is_the_best", args=args) == expected


def test_saves_that_miss_the_best_evaluation(tmp_path):
    args = arguments(tmp_path, **BEST)
    assert verdicts("best_checkpoint_is_saved", args=args) == []
    args.save_steps = 15
    assert verdicts("best_checkpoint_is_saved", args=args) == [("K3", "error")]
    args.load_best_model_at_end = False
    assert verdicts("best_checkpoint_is_saved", args=args) == []


def rows(count):
    return TensorDataset(torch.randn(count, 2), torch.zeros(count, dtype=torch.long))


def planned(tmp_path, make, **settings):
    model = nn.Linear(2, 2)
    schedule = make(torch.optim.SGD(model.parameters(), lr=0.1))
    given = {"args": arguments(tmp_path, **settings), "lr_scheduler": schedule}
    return verdicts("schedule_fits_the_plan", model, train_dataset=rows(64), **given)


def named(name, **settings):
    return lambda optimizer: transformers.get_scheduler(name, optimizer, **settings)


SHORT = [
    named("linear", num_warmup_steps=2, num_training_steps=20),
    named("cosine", num_warmup_steps=0, num_training_steps=50),
    named("polynomial", num_warmup_steps=0, num_training_steps=30),
    lambda o: schedules.LambdaLR(o, lambda step: max(0.0, 1 - step / 40)),
    lambda o: schedules.OneCycleLR(o, 0.1, total_steps=25),
    lambda o: schedules.CosineAnnealingLR(o, T_max=3),
    lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, total_iters=5), schedules.CosineAnnealingLR(o, 20)], [5]
    ),
]
LONG = [
    named("linear", num_warmup_steps=10, num_training_steps=100),
    named("linear", num_warmup_steps=10, num_training_steps=1000),
    named("cosine", num_warmup_steps=0, num_training_steps=100),
    named("constant_with_warmup", num_warmup_steps=10),
    named("constant"),
    named("inverse_sqrt", num_warmup_steps=10),
    named("cosine_with_restarts", num_warmup_steps=0, num_training_steps=100,
          scheduler_specific_kwargs={"num_cycles": 4}),
    lambda o: schedules.CosineAnnealingWarmRestarts(o, T_0=10),
    lambda o: schedules.LinearLR(o, total_iters=10),
    lambda o: schedules.StepLR(o, step_size=30),
    lambda o: schedules.ReduceLROnPlateau(o),
    lambda o: schedules.CosineAnnealingLR(o, T_max=100),
    lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, total_iters=5), schedules.CosineAnnealingLR(o, 95)], [5]),
]  # fmt: skip


@pytest.mark.parametrize("make", SHORT)
def test_a_schedule_that_ends_early_is_found(tmp_path, make):
    assert planned(tmp_path, make) == [("O4", "warn")]


@pytest.mark.parametrize("make", LONG)
def test_a_schedule_that_lasts_is_healthy(tmp_path, make):
    assert planned(tmp_path, make) == []


def test_the_plan_is_counted_in_optimizer_steps(tmp_path):
    epochs = {"max_steps": -1, "num_train_epochs": 4, "per_device_train_batch_size": 4}
    made = named("linear", num_warmup_steps=0, num_training_steps=32)
    assert planned(tmp_path, made, gradient_accumulation_steps=2, **epochs) == []
    assert planned(tmp_path, made, **epochs) == [("O4", "warn")]


def test_without_arguments_a_schedule_may_count_epochs():
    model = nn.Linear(2, 2)
    schedule = schedules.CosineAnnealingLR(torch.optim.SGD(model.parameters(), lr=0.1), T_max=3)
    assert verdicts("schedule_fits_the_plan", model, lr_scheduler=schedule) == []


ROWS = "evaluation_reads_all_rows"


def test_a_loader_that_loses_rows_is_found():
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(10), 4, drop_last=True)) == [("E2", "warn")]
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(3), 4, drop_last=True)) == [("E2", "error")]
    twice = DataLoader(rows(10), 4, sampler=[*range(10), 0, 1])  # filled up for the last rank
    assert verdicts(ROWS, eval_dataset=twice) == [("E2", "error")]
    part = DataLoader(rows(10), 4, sampler=SubsetRandomSampler(range(5)))  # the rest is trained on
    assert verdicts(ROWS, eval_dataset=part) == []
    assert verdicts(ROWS, train_dataset=part.dataset, eval_dataset=part) == []
    assert verdicts(ROWS, train_dataset=rows(8), eval_dataset=part) == [("E2", "warn")]
    drawn = DataLoader(rows(10), 4, sampler=WeightedRandomSampler([1.0] * 10, 10))
    assert verdicts(ROWS, eval_dataset=drawn) == [("E2", "error")]
    some = DataLoader(rows(10), 4, sampler=RandomSampler(rows(10), num_samples=6))
    assert verdicts(ROWS, eval_dataset=some) == [("E2", "warn")]
    every = DataLoader(rows(10), 4, sampler=RandomSampler(rows(10)))
    assert verdicts(ROWS, eval_dataset=every) == []


def test_a_loader_that_reads_all_rows_is_healthy():
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(10), 4)) == []
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(12), 4, drop_last=True)) == []
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(10), 4, shuffle=True)) == []
    assert verdicts(ROWS, train_dataset=DataLoader(rows(10), 4, drop_last=True)) == []


def test_the_trainers_one_setting_for_both_loaders_is_found(tmp_path):
    settings = {"per_device_eval_batch_size": 4}
    args = arguments(tmp_path, dataloader_drop_last=True, **settings)
    assert verdicts(ROWS, args=args, eval_dataset=rows(10)) == [("E2", "warn")]
    assert verdicts(ROWS, args=args, eval_dataset=rows(12)) == []
    whole = arguments(tmp_path, **settings)
    assert verdicts(ROWS, args=whole, eval_dataset=rows(10)) == []


def test_a_precision_that_the_accelerator_ignores_is_found():
    check, args = "precision_was_taken_up", SimpleNamespace(bf16=True)
    trainers = {
        given: SimpleNamespace(accelerator=SimpleNamespace(mixed_precision=given))
        for given in ("no", "bf16")
    }
    assert verdicts(check, args=args, trainer=trainers["no"]) == [("P4", "warn")]
    assert verdicts(check, args=args, trainer=trainers["bf16"]) == []
    assert verdicts(check, args=SimpleNamespace(bf16=False), trainer=trainers["no"]) == []


def test_the_share_of_one_rank_is_all_rows_only_among_ranks(monkeypatch):
    sampler = DistributedSampler(rows(12), num_replicas=3, rank=0, shuffle=False)
    loader = DataLoader(rows(12), 4, sampler=sampler)
    assert verdicts(ROWS, eval_dataset=loader) == [("E2", "error")]
    alone = DistributedSampler(rows(12), num_replicas=1, rank=0)
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(12), 4, sampler=alone)) == []
    half = SubsetRandomSampler(range(6))  # the other half is trained on
    assert verdicts(ROWS, eval_dataset=DataLoader(rows(12), 4, sampler=half)) == []
    monkeypatch.setattr(argument_checks, "_distributed", lambda: True)
    assert verdicts(ROWS, eval_dataset=loader) == []


@pytest.mark.parametrize(("drop", "expected"), [(True, [("E2", "warn")]), (False, [])])
def test_an_evaluation_loader_of_the_trainers_own_is_asked(drop, expected):
    class Own:
        def get_eval_dataloader(self):
            return DataLoader(rows(10), 4, drop_last=drop)

    assert verdicts(ROWS, eval_dataset=rows(10), trainer=Own()) == expected
    assert argument_checks.own_loader(transformers.Trainer.__new__(transformers.Trainer)) is None


class Batches:
    """A batch sampler of one's own, which counts how often it was read."""

    def __init__(self, batches, data=None):
        self.batches, self.data, self.reads = batches, data, 0

    def __iter__(self):
        self.reads += 1
        yield from self.batches


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([[0, 1, 2, 3], [4, 5, 6, 7]], [("E2", "warn")]),  # the last one is never made
        ([[0, 1, 2, 3], [4, 5, 6, 7], [7, 8, 9]], [("E2", "error")]),
        ([[9, 1, 2, 3], [4, 5, 6, 7], [8, 0]], []),
        (BatchSampler(range(10), 4, drop_last=False), []),
    ],
)
def test_batches_of_ones_own_name_all_rows(batches, expected):
    for sampler in (batches, Batches(batches)):
        data = rows(10)
        loader = DataLoader(data, batch_sampler=sampler)
        own = type("Own", (), {"get_eval_dataloader": lambda _, loader=loader: loader})()
        assert verdicts(ROWS, train_dataset=rows(8), eval_dataset=loader) == expected
        assert verdicts(ROWS, train_dataset=rows(8), eval_dataset=data, trainer=own) == expected
        another = rows(20)  # places in a set that the loader does not read
        assert verdicts(ROWS, train_dataset=rows(8), eval_dataset=another, trainer=own) == []
    assert sampler.reads == 0
    used_up = DataLoader(rows(10), batch_sampler=(batch for batch in batches))
    assert verdicts(ROWS, train_dataset=rows(8), eval_dataset=used_up) == []


def test_batches_that_name_a_part_of_the_set_that_is_trained_on():
    loader = DataLoader(rows(10), batch_sampler=[[0, 1, 2, 3], [4, 5]])
    assert verdicts(ROWS, train_dataset=loader.dataset, eval_dataset=loader) == []
