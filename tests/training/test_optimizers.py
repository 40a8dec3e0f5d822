"""Optimizers by name do what torch's do; formulas and pairs serve schedules and checkpoints."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from cookbook.maths import optimizers as by_hand
from cookbook.training import schedules
from cookbook.training.optimizers import OPTIMIZERS, ByHand, Together, build, gap, muon

with_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon yet")
NAMES = [pytest.param(n, marks=with_muon if n == "Muon" else ()) for n in OPTIMIZERS]


def network(seed=0):
    torch.manual_seed(seed)
    model = nn.Module()
    model.embedding = nn.Embedding(7, 6)
    model.layers = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)) for _ in range(2))
    model.head = nn.Linear(6, 3)
    return model


def give_gradients(model, seed):
    draw = torch.Generator().manual_seed(seed)
    for x in model.parameters():
        x.grad = torch.randn(x.shape, generator=draw)


def walk(model, optimizer, steps=10, first=0, scheduler=None):
    for step in range(first, first + steps):
        give_gradients(model, step)
        optimizer.step()
        if scheduler:
            scheduler.step()
    return [x.detach().clone() for x in model.parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_moves_every_weight_under_a_schedule(name):
    model = network()
    before = [x.detach().clone() for x in model.parameters()]
    optimizer = build(model, name, 1e-2, layer_decay=0.5)
    decay = schedules.scheduler(optimizer, "linear", total=10)
    after = walk(model, optimizer, steps=5, scheduler=decay)
    assert not [a for a, b in zip(after, before, strict=True) if torch.equal(a, b)]
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    assert rates == pytest.approx([1e-2 * 0.5**depth * 0.5 for depth in (3, 2, 1, 0)])


def test_a_formula_as_an_optimizer_equals_torch():
    ours, theirs = network(), network()
    a = walk(ours, ByHand(ours.parameters(), by_hand.adamw, lr=1e-2, weight_decay=0.1))
    b = walk(theirs, torch.optim.AdamW(theirs.parameters(), 1e-2, weight_decay=0.1))
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


def test_without_sparing_all_weights_decay_and_with_it_no_norm_and_no_bias():
    for spare, expected in ((True, {0.1, 0.0}), (False, {0.1})):
        optimizer = build(network(), "AdamW", 1e-3, weight_decay=0.1, spare_norms=spare)
        assert {group["weight_decay"] for group in optimizer.param_groups} == expected


@with_muon
def test_muon_gets_the_matrices_of_the_layers_and_adamw_the_rest():
    model = network()
    optimizer = build(model, "Muon", 1e-3)
    first, second = optimizer.parts
    assert isinstance(first, torch.optim.Muon) and isinstance(second, torch.optim.AdamW)
    matrices = [x for group in first.param_groups for x in group["params"]]
    assert {id(x) for x in matrices} == {id(layer[0].weight) for layer in model.layers}
    assert sum(len(group["params"]) for group in second.param_groups) == 3 + 6


def test_where_torch_has_no_muon_one_line_says_so(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match="has no Muon: torch 2.9 was the first"):
        muon([], 0.1, matrices=set())


@pytest.mark.parametrize("name", ["LAMB", pytest.param("Muon", marks=with_muon)])
def test_a_run_that_is_resumed_ends_where_the_undisturbed_one_does(name):
    whole, cut = network(), network()
    expected = walk(whole, build(whole, name, 1e-2), steps=8)
    optimizer = build(cut, name, 1e-2)
    walk(cut, optimizer, steps=4)
    saved = copy.deepcopy(optimizer.state_dict())
    again = build(cut, name, 1e-2)
    again.load_state_dict(saved)
    for x, y in zip(walk(cut, again, steps=4, first=4), expected, strict=True):
        assert torch.equal(x, y)


def test_two_as_one_share_groups_and_refuse_a_parameter_twice():
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    parts = torch.optim.SGD([a], lr=0.1), torch.optim.Adam([b], lr=0.2)
    both = Together(*parts)
    both.param_groups[1]["lr"] = 0.5
    assert parts[1].param_groups[0]["lr"] == 0.5
    both.load_state_dict(both.state_dict())
    both.param_groups[0]["lr"] = 0.7
    assert parts[0].param_groups[0]["lr"] == 0.7
    with pytest.raises(ValueError, match="more than one parameter group"):
        Together(torch.optim.SGD([a], lr=0.1), torch.optim.SGD([a], lr=0.1))


def test_an_unknown_name_is_named():
    with pytest.raises(ValueError, match="optimizer 'Lion' is unknown; choose one of SGD"):
        build(network(), "Lion", 1e-3)


def test_the_gap_of_equals_is_rounding_and_of_others_is_not():
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    by_us = partial(ByHand, formula=by_hand.adamw, lr=1e-2, weight_decay=0.1)
    by_torch = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
    assert gap(net, by_us, by_torch) < 1e-10
    assert gap(net, by_us, partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1)) > 1e-4
    before = [x.detach().clone() for x in net.parameters()]
    gap(net, by_us, by_torch, steps=1)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
