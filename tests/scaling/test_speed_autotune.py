"""Autotuning on a clock that is made: the choice follows the times, the memory and the budget."""

import pytest
import torch
from torch import nn

from cookbook.scaling import speed_autotune
from cookbook.scaling.speed import autotune


class Net(nn.Module):
    """A step of `cost(rows, dtype)` seconds on the clock below."""

    def __init__(self, clock, cost):
        super().__init__()
        self.layer, self.clock, self.cost = nn.Linear(64, 64), [clock], cost
        self.checkpointing = False

    def __deepcopy__(self, memo):
        new = Net(self.clock[0], self.cost)
        new.layer.load_state_dict(self.layer.state_dict())
        return new

    def activation_checkpointing_enable(self, how):
        self.checkpointing = True

    def forward(self, x, labels):
        out = self.layer(x)
        self.clock[0].now += self.cost(len(x), out.dtype)
        if not self.checkpointing:
            out = out * torch.zeros(len(x), 10_000).sum(1, keepdim=True)  # held while it counts
        return {"loss": out.float().square().mean()}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


ROWS = [{"x": torch.ones(64), "labels": 0} for _ in range(40)]


def tune(cost, tmp_path, **given):
    clock = Clock()
    net = Net(clock, cost)
    given = {"seconds": 1e6, "output_dir": str(tmp_path)} | given
    return autotune(net, ROWS, clock=clock, **given), net


def test_it_takes_what_was_fastest_and_keeps_the_rows_of_an_update(tmp_path):
    def cost(rows, dtype):  # 16 rows at once are best, and half precision helps
        return (1.0 + abs(rows - 16)) * (0.5 if dtype == torch.bfloat16 else 1.0)

    found, net = tune(cost, tmp_path, update=32, learning_rate=3e-4)
    args = found.arguments
    assert args.bf16 and args.per_device_train_batch_size == 16
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 32
    assert args.learning_rate == 3e-4
    assert [line.split(":")[0] for line in found.reasons] == [
        "precision bf16", "rows 16", "accumulation 2",
    ]  # fmt: skip
    assert "fp32" in str(found)
    best = max((t for t in found.tried if "precision" in t and "rows" in t and
                t["precision"] == "bf16"), key=lambda t: t["rows_per_second"])  # fmt: skip
    assert best["rows"] == 16


def test_where_half_precision_is_slower_it_is_not_taken(tmp_path):
    found, _ = tune(lambda rows, dtype: 4.0 if dtype == torch.bfloat16 else 1.0, tmp_path)
    assert not found.arguments.bf16 and found.arguments.per_device_train_batch_size == 32


def test_a_size_that_does_not_fit_into_the_device_is_not_taken(tmp_path):
    def cost(rows, dtype):
        if rows > 8:
            raise torch.OutOfMemoryError
        return 1.0

    assert tune(cost, tmp_path)[0].arguments.per_device_train_batch_size == 8


def test_the_model_stays_as_it_is(tmp_path):
    clock = Clock()
    net = Net(clock, lambda rows, dtype: 1.0)
    before = net.layer.weight.detach().clone()
    autotune(net, ROWS, clock=clock, output_dir=str(tmp_path), seconds=3.0)
    assert torch.equal(net.layer.weight, before) and net.layer.weight.grad is None


def test_trials_for_which_no_time_is_left_are_named(tmp_path):
    found, _ = tune(lambda rows, dtype: 10.0, tmp_path, seconds=15.0)
    assert "no time was left for" in str(found)
    assert found.arguments.per_device_train_batch_size in (4, 8, 16, 32)


def test_memory_turns_sizes_down_then_checkpoints_then_gives_up(tmp_path):
    step = speed_autotune._Trials(Net(Clock(), lambda r, d: 1.0), ROWS, None, Clock(), 1.0)
    held = {n: step.peak(n, "fp32", False) for n in (4, 32)}
    small = {n: step.peak(n, "fp32", True) for n in (4, 32)}
    assert held[4] < held[32] and small[4] < held[4]

    def given(limit):
        return tune(lambda rows, dtype: 1.0, tmp_path, memory=limit, precisions=("fp32",))[0]

    fits = given(held[4])
    assert fits.arguments.per_device_train_batch_size == 4 and "32 rows hold" in str(fits)
    made = given(small[4]).arguments
    assert getattr(made, "activation_checkpointing", None) or made.gradient_checkpointing
    with pytest.raises(ValueError, match="not even 4 rows"):
        given(1000)
