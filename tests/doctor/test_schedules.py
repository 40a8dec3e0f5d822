import pytest
import torch
import transformers
from torch.optim import lr_scheduler

from cookbook.doctor import schedules


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def test_steps_are_counted_those_with_an_epoch_apart(optimizer):
    schedule = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5)
    counter = schedules.Counter(schedule)
    schedule.step(0.5), schedule.step(1.0), schedule.step()
    assert (counter.schedule.calls, counter.schedule.placed) == (1, 2)
    counter.close()
    schedule.step()
    assert counter.schedule.calls == 1


def test_a_plateau_schedule_is_given_a_metric_not_an_epoch(optimizer):
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer)
    counter = schedules.Counter(schedule)
    schedule.step(0.3)
    schedule.step(metrics=torch.tensor(0.5))
    assert (counter.schedule.calls, counter.schedule.placed) == (2, 0)
    assert counter.schedule.mode == "min" and counter.schedule.watched == [0.3, 0.5]
    assert schedules.Counter(lr_scheduler.StepLR(optimizer, 3)).schedule.mode == ""


@pytest.mark.parametrize(
    "make, horizon, steps",
    [
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=30), 30, True),
        (lambda o: lr_scheduler.LinearLR(o, total_iters=7), 7, None),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=9), 9, None),
        (lambda o: lr_scheduler.StepLR(o, 3), None, None),
        (lambda o: lr_scheduler.LambdaLR(o, lambda e: 0.9**e), None, None),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o), None, False),
        (lambda o: transformers.get_linear_schedule_with_warmup(o, 2, 50), 50, True),
        (lambda o: transformers.get_cosine_schedule_with_warmup(o, 2, 60), 60, True),
    ],
)
def test_what_a_schedule_counts_and_for_how_long(optimizer, make, horizon, steps):
    schedule = make(optimizer)
    assert schedules.horizon_of(schedule) == horizon
    assert schedules.counts_steps(schedule) is steps
