"""The best weights come back, because they were copied and not pointed at."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cookbook.training.early_stopping import EarlyStopping, keep_copy, keep_reference


def watched(values, patience):
    """A net whose weight is the number of the evaluation; where it stopped, and the guard."""
    net, early = nn.BatchNorm1d(1), EarlyStopping(patience)
    for step, value in enumerate(values, 1):
        nn.init.constant_(net.weight, step)
        net.running_mean.fill_(10 * step)
        if early.see(value, step, net):
            break
    return net, early, step


def test_a_case_by_hand():
    net, early, stopped = watched([3.0, 1.0, 2.0, 1.5, 1.2, 0.1], patience=3)
    assert (early.step, early.best, stopped) == (2, 1.0, 5)  # 0.1 would have come one later
    assert net.weight.item() == 5
    assert early.restore(net) is net
    assert net.weight.item() == 2 and net.running_mean.item() == 20  # buffers too


@given(st.lists(st.floats(0, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_what_is_restored_is_the_first_of_the_best_so_far(values, patience):
    net, early, stopped = watched(values, patience)
    seen = values[:stopped]
    assert early.step == seen.index(min(seen)) + 1
    assert early.restore(net).weight.item() == early.step
    assert stopped == len(values) or stopped - early.step == patience


def test_a_reference_restores_nothing_and_a_copy_does():
    net = nn.Linear(3, 2)
    before = net.weight.detach().clone()
    same, kept = keep_reference(net), keep_copy(net)
    with torch.no_grad():
        net.weight.add_(1.0)
    after = net.weight.detach().clone()
    net.load_state_dict(same)
    assert torch.equal(net.weight, after)
    net.load_state_dict(kept)
    assert torch.equal(net.weight, before)


def test_no_number_is_never_the_best():
    net, early, stopped = watched([math.nan, math.nan, math.nan], patience=2)
    assert stopped == 2
    with pytest.raises(ValueError, match="no best weights"):
        early.restore(net)
    with pytest.raises(ValueError, match="at least 1"):
        EarlyStopping(0)
