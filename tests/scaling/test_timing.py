"""Times: on clocks that are made, so that none of it depends on this machine."""

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.scaling import timing
from cookbook.scaling.timing import StepTimes, padded_sizes, probe


class Clock:
    """A clock that a step moves by as much as the step is meant to take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def sized(*sizes):
    return [{"x": torch.zeros(size)} for size in sizes]


def test_a_linear_cost_is_found_exactly_and_the_total_with_it():
    clock = Clock()

    def step(batch):
        clock.now += 0.5 + 0.01 * batch["x"].numel()

    times = probe(step, sized(300, 100, 200), clock=clock)
    assert times.sizes == (100, 200, 300)
    assert np.allclose(times.of([0, 100, 150, 400]), [0.5, 1.5, 2.0, 4.5])
    assert times.total([100, 100]) == pytest.approx(3.0)


def test_one_slow_round_is_outvoted():
    clock, calls = Clock(), iter(range(99))

    def step(batch):
        clock.now += 100.0 if next(calls) == 2 else 1.0

    assert probe(step, sized(10, 20), clock=clock).seconds == (1.0, 1.0)


def test_the_first_step_is_not_counted():
    clock, calls = Clock(), iter(range(99))

    def step(batch):
        clock.now += 50.0 if next(calls) == 0 else 1.0

    assert probe(step, sized(10), rounds=1, clock=clock).seconds == (1.0,)


def test_from_one_size_time_is_proportional():
    assert StepTimes((10,), (2.0,)).of([1, 10, 100]).tolist() == [0.2, 2.0, 20.0]


def test_no_step_takes_less_than_no_time():
    assert StepTimes((100, 200), (1.0, 3.0)).of([0]).tolist() == [0.0]


def test_batches_are_padded_to_their_longest_row():
    assert padded_sizes([4, 1, 2, 3, 9], 2, seed=None).tolist() == [4, 8, 9]
    drawn = padded_sizes(range(1, 101), 10, epochs=3)
    assert len(drawn) == 30
    assert drawn.mean() > padded_sizes(range(1, 101), 10, seed=None).mean()
    assert not np.array_equal(drawn[:10], drawn[10:20])


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x, labels=None):
        logits = self.linear(x)
        loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


def test_a_training_step_trains_and_a_forward_step_does_not():
    model = Model()
    before = model.linear.weight.clone()
    timing.forward_step(model)({"x": torch.ones(4, 3)})
    assert torch.equal(model.linear.weight, before) and model.linear.weight.grad is None
    timing.training_step(model)({"x": torch.ones(4, 3), "labels": torch.ones(4).long()})
    assert not torch.equal(model.linear.weight, before)
    with pytest.raises(ValueError, match="forward_step"):
        timing.training_step(Model().requires_grad_(False))
