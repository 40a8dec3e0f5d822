"""The range test brackets the rates that work, and leaves the model as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cookbook.training.optimizers import build
from cookbook.training.order import Batches
from cookbook.training.range_test import RangeTest, range_test

SETTINGS = {"low": 1e-4, "high": 1e3, "steps": 40}


def setup():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    rows = [{"input": torch.eye(4)[i % 4] + 0.1 * torch.randn(4), "labels": i % 4}
            for i in range(64)]  # fmt: skip
    return model, Batches(rows, 16)


def loss_fn(model, batch):
    logits = model(batch["input"])
    return nn.functional.cross_entropy(logits, batch["labels"], reduction="sum"), len(logits)


def test_everything_is_put_back():
    model, batches = setup()
    optimizer = build(model, "momentum", 0.1)
    loss_fn(model, batches[0])[0].backward()
    optimizer.step()  # there is a state to put back
    optimizer.zero_grad()
    model.eval()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    range_test(model, batches, optimizer, loss_fn=loss_fn, **SETTINGS)
    for old, new in zip(before[0].values(), model.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert not model.training
    assert optimizer.state_dict()["param_groups"] == before[1]["param_groups"]
    for number, state in before[1]["state"].items():
        momentum = optimizer.state_dict()["state"][number]["momentum_buffer"]
        assert torch.equal(state["momentum_buffer"], momentum)
    assert all(p.grad is None for p in model.parameters())


def test_the_edge_lies_where_a_quadratic_breaks():
    """On x²/2 SGD diverges above a rate of 2; clipped to no length, the test sees it there."""
    x = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        x.weight.fill_(1.0)
    square = lambda model, batch: (model.weight.square().sum() / 2, 1)  # noqa: E731
    optimizer = torch.optim.SGD(x.parameters(), lr=1.0)
    found = range_test(x, [{}] * 40, optimizer, low=1e-3, high=1e2, steps=40, clip=1e9,
                       loss_fn=square)  # fmt: skip
    assert 0.5 < found.lowest < 10 and found.steepest < found.lowest
    assert len(found.rates) < 40  # it stopped when the loss had doubled
    assert found.breaks >= found.lowest and found.suggestion == found.breaks / 10


def test_groups_keep_their_ratios(monkeypatch):
    model, batches = setup()
    groups = [{"params": model[0].parameters(), "lr": 0.2}, {"params": model[3].parameters()}]
    optimizer, seen = torch.optim.SGD(groups, lr=0.1), []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append([g["lr"] for g in o.param_groups]))
    range_test(model, batches, optimizer, loss_fn=loss_fn, low=1e-3, high=1e-1, steps=5)
    assert np.allclose([a / b for a, b in seen], 2.0)
    assert np.allclose([a for a, _ in seen], np.geomspace(1e-3, 1e-1, 5))


def test_a_loss_that_is_no_number_ends_the_test_and_is_left_out():
    model, batches = setup()
    count = []

    def breaks(model, batch):
        count.append(1)
        loss, labels = loss_fn(model, batch)
        return loss * (float("nan") if len(count) > 5 else 1.0), labels

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = range_test(model, batches, optimizer, loss_fn=breaks, **SETTINGS)
    assert len(found.rates) == len(found.losses) == 5 and np.isfinite(found.smooth).all()


def test_the_marks_of_a_curve_by_hand():
    rates = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    smooth = np.array([2.0, 1.9, 1.2, 1.0, 5.0])
    found = RangeTest(rates, smooth, smooth)
    assert found.lowest == found.breaks == 0.1 and found.suggestion == pytest.approx(0.01)
    noisy = RangeTest(rates, smooth, np.array([1.85, 1.9, 1.91, 1.93, 5.0]))
    assert noisy.lowest == 1e-4 and noisy.breaks == 0.1  # it never learnt, and broke late
    assert RangeTest(rates, smooth, smooth + 9).breaks == 1e-4  # it never was fine
    assert found.steepest == 1e-3 or found.steepest == 1e-2


@pytest.mark.parametrize(("low", "high", "steps"), [(0.0, 1.0, 9), (1.0, 0.1, 9), (0.1, 1.0, 2)])
def test_rates_that_do_not_climb_are_refused(low, high, steps):
    model, batches = setup()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="rates must climb in at least 3 steps"):
        range_test(model, batches, optimizer, low=low, high=high, steps=steps)
