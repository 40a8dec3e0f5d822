"""Fifty steps side by side with the libraries, and what each formula promises."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cookbook.maths import optimizers
from cookbook.maths.optimizers import (
    adam,
    adamw,
    descend,
    lamb,
    muon,
    orthogonalize,
    sgd,
    trust_ratio,
)


def models(dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    return model, copy.deepcopy(model)


def train_both(update, settings, optimizer_of, steps=50, dtype=torch.float64):
    """The parameters of two copies, one trained by our formula, one by the library."""
    ours, theirs = models(dtype)
    optimizer, states = optimizer_of(theirs.parameters()), [{} for _ in ours.parameters()]
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 6, generator=draw, dtype=dtype)
        y = torch.randint(0, 3, (16,), generator=draw)
        for model in (ours, theirs):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
        descend(update, list(ours.parameters()), states, **settings)
        optimizer.step()
    return zip(ours.parameters(), theirs.parameters(), strict=True)


TORCH = {
    "sgd": (sgd, {"rate": 0.1}, lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (sgd, {"rate": 0.1, "momentum": 0.9, "decay": 0.01},
                 lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
    "adam": (adam, {"rate": 0.01}, lambda p: torch.optim.Adam(p, 0.01)),
    "adam, coupled": (adam, {"rate": 0.01, "decay": 0.1},
                      lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1)),
    "adamw": (adamw, {"rate": 0.01, "decay": 0.1, "betas": (0.8, 0.95)},
              lambda p: torch.optim.AdamW(p, 0.01, (0.8, 0.95), weight_decay=0.1)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float64, 0, 1e-10), (torch.float32, 1e-5, 1e-6)]
)
@pytest.mark.parametrize("name", TORCH)
def test_fifty_steps_equal_torch(name, dtype, rtol, atol):
    for ours, theirs in train_both(*TORCH[name], dtype=dtype):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_fifty_steps_of_lamb_equal_pytorch_optimizer_once_its_deviations_are_on():
    from pytorch_optimizer import Lamb

    deviations = {"debias": False, "longest": Lamb.clamp, "decoupled": True}
    settings = {"rate": 0.01, "decay": 0.1, **deviations}
    for ours, theirs in train_both(lamb, settings, lambda p: Lamb(p, 0.01, weight_decay=0.1)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    as_in_the_paper = train_both(
        lamb, {"rate": 0.01, "decay": 0.1}, lambda p: Lamb(p, 0.01, weight_decay=0.1)
    )
    assert any((ours - theirs).abs().max() > 1e-3 for ours, theirs in as_in_the_paper)


def test_lamb_by_hand_as_the_paper_has_it():
    """x = (3, 4), g = (1, -1): m̂/√v̂ = (1, -1); u = (1, -1) + 0.5 x = (2.5, 1)."""
    x, g = (
        torch.tensor([3.0, 4.0], dtype=torch.float64),
        torch.tensor([1.0, -1.0], dtype=torch.float64),
    )
    u = torch.tensor([2.5, 1.0], dtype=torch.float64)
    expected = x - 0.1 * 5 / math.sqrt(7.25) * u
    torch.testing.assert_close(lamb(x, g, {}, rate=0.1, decay=0.5, eps=0.0), expected)


@given(st.floats(0.01, 100), st.floats(1e-4, 0.5))
def test_a_step_of_lamb_is_a_share_of_the_weights_whatever_the_gradients_scale(scale, rate):
    x = torch.linspace(-1, 2, 12, dtype=torch.float64)
    g = scale * torch.linspace(1, -3, 12, dtype=torch.float64)
    step = (x - lamb(x, g, {}, rate=rate, decay=0.0)).norm()
    assert step.item() == pytest.approx(rate * x.norm().item(), rel=1e-9)


@given(st.floats(1e-3, 1e3))
def test_adam_does_not_see_the_scale_of_the_gradient_and_sgd_does(scale):
    x, g = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(adam(x, scale * g, {}, eps=0.0), adam(x, g, {}, eps=0.0))
    torch.testing.assert_close(sgd(x, scale * g, {}, rate=0.1), scale * sgd(x, g, {}, rate=0.1))


def test_coupled_decay_is_divided_away_and_decoupled_decay_is_not():
    """Two weights of 1, one with gradients a thousand times larger, that cancel over time."""
    ends = {}
    for name, update in {"coupled": adam, "decoupled": adamw}.items():
        x, state = torch.ones(2, dtype=torch.float64), {}
        for step in range(200):
            sign = 1 if step % 2 else -1
            gradient = sign * torch.tensor([1.0, 1000.0], dtype=torch.float64)
            x = update(x, gradient, state, rate=1e-3, decay=0.1)
        ends[name] = x
    assert ends["decoupled"][0] == pytest.approx(ends["decoupled"][1].item(), rel=1e-9)
    assert ends["decoupled"][0] < 0.99
    shrunk = 1 - ends["coupled"]
    assert shrunk[0] > 5 * shrunk[1].abs()


def test_zero_weights_and_zero_updates_keep_the_plain_step():
    zero, one = torch.zeros(3), torch.ones(3)
    assert trust_ratio(zero, one) == 1 and trust_ratio(one, zero) == 1
    assert torch.equal(lamb(zero, zero, {}), zero)


def test_parameters_without_gradient_are_left_alone():
    frozen = nn.Parameter(torch.ones(2))
    descend(adam, [frozen], [{}])
    assert torch.equal(frozen.data, torch.ones(2))
    assert optimizers.moments(torch.ones(1), {}, (0.9, 0.99), debias=False)[
        0
    ].item() == pytest.approx(0.1)


with_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon yet")


@with_muon
def test_orthogonalize_equals_torchs_own():
    from torch.optim._muon import _zeropower_via_newtonschulz as theirs

    torch.manual_seed(0)
    for shape in ((8, 8), (4, 24), (24, 4)):
        matrix = torch.randn(shape)
        expected = theirs(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
        found = orthogonalize(matrix)
        assert found.dtype == expected.dtype and found.shape == shape
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@with_muon
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float64, 0, 1e-10), (torch.float32, 1e-5, 1e-6)]
)
def test_fifty_steps_of_muon_equal_torch(dtype, rtol, atol):
    ours, theirs = (matrices(0, dtype) for _ in range(2))
    optimizer, states = torch.optim.Muon(theirs, 0.02, weight_decay=0.1), [{} for _ in ours]
    draw = torch.Generator().manual_seed(1)
    for _ in range(50):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=draw, dtype=dtype)
            b.grad = a.grad.clone()
        descend(muon, ours, states, rate=0.02, decay=0.1)
        optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


def matrices(seed, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    shapes = ((6, 6), (4, 12), (12, 4))
    return [nn.Parameter(torch.randn(s, generator=draw, dtype=dtype)) for s in shapes]


@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e3))
def test_orthogonalize_keeps_the_directions_and_not_the_sizes(rows, columns, scale):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).double()
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalize(scale * matrix, precision=torch.float64)
    torch.testing.assert_close(found, orthogonalize(matrix, precision=torch.float64))
    inside = u.T @ found @ v.T
    torch.testing.assert_close(inside, torch.diag(torch.diagonal(inside)), rtol=0, atol=1e-9)
    strong = torch.diagonal(inside)[s > 0.01 * matrix.norm()]
    assert ((strong > 0.6) & (strong < 1.3)).all()


def test_a_step_of_muon_by_hand():
    """One row: a matrix of one singular value, which five rounds take from 1 to about 0.7."""
    s = 1.0
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    x, g = torch.ones(1, 2, dtype=torch.float64), torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    moved = muon(x, g, {}, rate=0.1, decay=0.5, precision=torch.float64)
    torch.testing.assert_close(moved, x - 0.05 * x - 0.1 * s * g / 5)
