"""What is measured around a step is what the step did."""

import pytest
import torch
from torch import nn

from cookbook.training.updates import distance_by_depth, measured, weights


def test_adams_first_step_moves_every_weight_by_the_rate_and_sgds_by_its_gradient():
    for build, expected in (
        (lambda p: torch.optim.Adam(p, lr=0.01), 1.0),
        (lambda p: torch.optim.SGD(p, lr=0.01), 5.0),
    ):
        x = nn.Parameter(torch.ones(4))
        x.grad = torch.tensor([5.0, -5.0, 5.0, 5.0])
        optimizer = build([x])
        with measured(optimizer) as updates:
            optimizer.step()
        assert updates[0].per_rate == pytest.approx(expected, rel=1e-4)
        assert updates[0].rate == 0.01


def test_a_rate_of_zero_moves_nothing_and_divides_by_nothing():
    x = nn.Parameter(torch.ones(2))
    x.grad = torch.ones(2)
    optimizer = torch.optim.SGD([x], lr=0.0)
    with measured(optimizer) as updates:
        optimizer.step()
    assert updates[0] == (0.0, 0.0, 0.0) and updates[0].per_rate == 0


def test_the_hooks_are_gone_afterwards_and_parameters_without_gradient_do_not_count():
    still, x = nn.Parameter(torch.full((99,), 7.0)), nn.Parameter(torch.ones(1))
    x.grad = torch.ones(1)
    optimizer = torch.optim.SGD([still, x], lr=0.5)
    with measured(optimizer) as updates:
        optimizer.step()
    optimizer.step()
    assert len(updates) == 1
    assert updates[0].size == pytest.approx(0.5) and updates[0].relative == pytest.approx(0.5)


def test_distance_by_depth_by_hand():
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Linear(2, 2, bias=False)])
    model.head = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.layers[0].weight.fill_(1.0)
        model.head.weight.copy_(torch.tensor([[3.0, 4.0]]))
        before = weights(model)
        model.layers[0].weight[0, 0] = 3.0
    assert distance_by_depth(model, before) == {0: 0.0, 1: 1.0}
