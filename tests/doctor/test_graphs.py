import gc

import pytest
import torch
from torch import nn

from cookbook.doctor.graphs import Graphs, earliest
from cookbook.doctor.records import Run


def passes(keep, count=64):
    """A training of `count` passes; `keep(middle, logits, loss)` says what somebody holds."""
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 2))
    graphs, held = Graphs(Run()), []
    for _ in range(count):
        middle = model[1](model[0](torch.ones(4, 3)))
        logits = model[3](model[2](middle) + middle)
        loss = logits.sum()
        graphs.remember(logits)
        loss.backward()
        held.append(keep(middle, logits, loss))
    return graphs.run.graphs


@pytest.mark.parametrize("which", [0, 1, 2])
def test_whatever_is_kept_of_a_pass_keeps_its_graph(which):
    assert passes(lambda *made: made[which]) == (64, 64)


def test_numbers_detached_outputs_and_the_latest_pass_keep_nothing():
    assert passes(lambda middle, logits, loss: (loss.item(), middle.detach())) == (1, 64)
    latest = [None]
    assert passes(lambda *made: latest.__setitem__(0, made))[0] <= 2


def test_the_way_back_passes_by_leaves_and_over_residuals():
    weight = torch.ones(3, requires_grad=True)
    first = weight * 2
    later = (first.exp() + first) @ weight.view(3, 1)
    assert earliest(later.grad_fn) is first.grad_fn
    assert earliest(first.grad_fn) is first.grad_fn


def test_rubbish_that_goes_round_is_nobodys():
    """An object that names itself is cleared away when Python likes, not when it is let go."""

    def circle(*made):
        box = [made]
        box.append(box)

    gc.disable()
    try:
        assert passes(circle, count=26)[0] < 16
    finally:
        gc.enable()
