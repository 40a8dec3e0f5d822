"""Rounding by hand against torch, loss scaling against GradScaler, what master weights keep."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cookbook.maths import half_precision
from cookbook.maths.half_precision import FORMATS, LossScaler, MasterWeights, rounded, share_lost

every_format = pytest.mark.parametrize("name", FORMATS)
floats = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20)


@every_format
@given(values=floats)
def test_rounding_equals_torch(name, values):
    x = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(rounded(x, name), x.to(FORMATS[name]).double())


@every_format
def test_rounding_equals_torch_at_the_edges_and_between(name):
    about = torch.finfo(FORMATS[name])
    tiny = about.smallest_normal * about.eps
    edges = [0.0, about.max, about.smallest_normal, tiny, 1.5 * tiny, 1 + about.eps / 2,
             1 + 1.5 * about.eps]  # fmt: skip
    edges += [about.max * (1 + about.eps / 8)] if name != "fp32" else []
    x = torch.tensor([*edges, *(-e for e in edges)], dtype=torch.float32)
    assert torch.equal(rounded(x, name), x.to(FORMATS[name]).double())
    spread = torch.randn(2000) * 10.0 ** torch.randint(-9, 6, (2000,))
    assert torch.equal(rounded(spread, name), spread.to(FORMATS[name]).double())


def test_fp16_overflows_where_bf16_does_not_and_bf16_is_coarser():
    assert half_precision.number_format("bf16")["largest"] > 1e38
    assert half_precision.number_format("fp16")["spacing"] == 2.0**-10
    assert half_precision.number_format("bf16")["spacing"] == 2.0**-7


def test_what_is_lost_depends_on_the_scale_and_zero_is_not_lost():
    x = torch.tensor([0.0, 1e-9, 1e-7, 1.0])
    assert share_lost(x, "fp16") == pytest.approx(1 / 3)
    assert share_lost(x, "fp16", 1024.0) == 0.0
    assert share_lost(x, "fp16", 1e6) == pytest.approx(1 / 3)  # now the 1 is infinite


def test_scaling_by_hand_equals_the_librarys_through_overflow_and_growth():
    torch.manual_seed(0)
    nets = [nn.Linear(4, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    steppers = [torch.optim.AdamW(net.parameters(), 1e-2) for net in nets]
    ours = LossScaler(1024.0, interval=5)
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=5)
    scales, stepped = [], []
    for step in range(20):
        x = torch.randn(8, 4) * (torch.inf if step in (3, 11, 12) else 1.0)
        ours.scale(nets[0](x).square().mean()).backward()
        stepped.append(ours.step(steppers[0]))
        theirs.scale(nets[1](x).square().mean()).backward()
        theirs.step(steppers[1])
        theirs.update()
        for stepper in steppers:
            stepper.zero_grad()
        scales.append((ours.factor, theirs.get_scale()))
        assert all(
            torch.equal(a, b) for a, b in zip(*(net.parameters() for net in nets), strict=True)
        )
    assert [step for step, did in enumerate(stepped) if not did] == [3, 11, 12]
    assert all(a == b for a, b in scales) and len({a for a, _ in scales}) > 2


def test_master_weights_end_where_fp32_ends_and_bf16_weights_do_not_move():
    def swallowed(step):
        layer = nn.Linear(3, 1, bias=False)
        layer.weight.data.fill_(1.0)
        layer = layer.to(torch.bfloat16)
        step(layer)
        return layer

    def plainly(layer):
        optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
        for _ in range(16):
            layer.weight.grad = torch.ones_like(layer.weight)
            optimizer.step()

    def by_master(layer):
        master = MasterWeights(layer, lambda weights: torch.optim.SGD(weights, lr=1e-3))
        for _ in range(16):
            layer.weight.grad = torch.ones_like(layer.weight)
            master.step()
            master.zero_grad()
        assert torch.allclose(master.copies[0], torch.full((1, 3), 1 - 16e-3), rtol=1e-5)
        assert layer.weight.grad is None

    assert swallowed(plainly).weight.eq(1.0).all()
    assert swallowed(by_master).weight.eq(torch.tensor(1 - 16e-3).bfloat16()).all()


def test_master_weights_leave_alone_what_is_frozen_or_has_no_gradient():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).to(torch.bfloat16)
    net[0].requires_grad_(False)
    master = MasterWeights(net, lambda weights: torch.optim.SGD(weights, lr=0.1))
    before = [p.clone() for p in net.parameters()]
    net[1].weight.grad = torch.ones_like(net[1].weight)
    master.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert moved == [False, False, True, False]
