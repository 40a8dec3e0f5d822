"""Schedules, groups and clipping equal what transformers and torch do, at every step."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cookbook.training import schedules


def rates(lr_scheduler, steps, peak):
    seen = []
    for _ in range(steps):
        seen.append(lr_scheduler.get_last_lr()[0] / peak)
        lr_scheduler.optimizer.step()
        lr_scheduler.step()
    return seen


def sgd(peak):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)


CASES = [  # of each: our name and settings, theirs
    ("constant", {"warmup": 0}, "constant", {}),
    ("constant", {"warmup": 7}, "constant_with_warmup", {}),
    ("linear", {"warmup": 7, "total": 40}, "linear", {}),
    ("linear", {"warmup": 0, "total": 40}, "linear", {}),
    ("linear", {"warmup": 40, "total": 40}, "linear", {}),
    ("cosine", {"warmup": 7, "total": 40}, "cosine", {}),
    ("cosine", {"warmup": 7, "total": 40, "cycles": 1.5}, "cosine", {"num_cycles": 1.5}),
    ("polynomial", {"warmup": 7, "total": 40, "end": 1e-7 / 3e-3}, "polynomial", {}),
    ("polynomial", {"warmup": 0, "total": 40, "power": 2.5, "end": 0.1}, "polynomial",
     {"power": 2.5, "lr_end": 0.1 * 3e-3}),
    *[
        ("cosine_with_restarts", {"warmup": warmup, "total": 40, "cycles": cycles},
         "cosine_with_restarts", {"num_cycles": cycles})
        for warmup in (0, 7)
        for cycles in (1, 3)
    ],
    ("inverse_sqrt", {"warmup": 7}, "inverse_sqrt", {}),
    ("inverse_sqrt", {"warmup": 0}, "inverse_sqrt", {}),
    ("inverse_sqrt", {"warmup": 7, "timescale": 3}, "inverse_sqrt", {"timescale": 3}),
    *[
        (
            "warmup_stable_decay",
            {"warmup": warmup, "total": 40, "decay": 11, "minimum": low, "shape": shape},
            "warmup_stable_decay",
            {"num_decay_steps": 11, "min_lr_ratio": low, "decay_type": shape},
        )
        for shape in ("cosine", "linear", "1-sqrt")
        for low in (0.0, 0.1)
        for warmup in (0, 7)
    ],
]  # fmt: skip


@pytest.mark.parametrize(("name", "ours", "library_name", "library"), CASES)
def test_equal_to_transformers_at_every_step(name, ours, library_name, library):
    from transformers import get_scheduler

    peak, steps = 3e-3, 50  # ten steps past the end, where a run must not start to learn again
    theirs = get_scheduler(
        library_name, sgd(peak), ours.get("warmup"), ours.get("total"), library or None
    )
    expected = rates(theirs, steps, peak)
    as_function = [schedules.SCHEDULES[name](step, **ours) for step in range(steps)]
    assert as_function == pytest.approx(expected, abs=1e-12)
    as_scheduler = rates(schedules.scheduler(sgd(peak), name, **ours), steps, peak)
    assert as_scheduler == pytest.approx(expected, abs=1e-12)


@given(
    name=st.sampled_from(["linear", "polynomial", "cosine", "warmup_stable_decay"]),
    warmup=st.integers(0, 30),
    rest=st.integers(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_rises_then_falls_between_0_and_1(name, warmup, rest):
    total = warmup + rest
    extra = {"decay": max(1, rest // 3)} if name == "warmup_stable_decay" else {}
    curve = [
        schedules.SCHEDULES[name](step, warmup=warmup, total=total, **extra)
        for step in range(total + 1)
    ]
    assert all(0 <= rate <= 1 for rate in curve)
    assert curve[: warmup + 1] == sorted(curve[: warmup + 1])
    assert curve[warmup:] == sorted(curve[warmup:], reverse=True)
    assert curve[warmup] == 1
    assert curve[-1] == pytest.approx(0, abs=1e-12)


def test_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="schedule 'sawtooth' is unknown; choose one of const"):
        schedules.scheduler(sgd(0.1), "sawtooth")


def test_polynomial_of_power_1_is_linear_and_cannot_end_above_its_peak():
    for step in range(50):
        straight = schedules.linear(step, warmup=5, total=40)
        assert schedules.polynomial(step, warmup=5, total=40) == straight
    with pytest.raises(ValueError, match="end is 2.0: it is a share of the peak rate"):
        schedules.polynomial(0, total=10, end=2.0)


def test_restarts_begin_at_the_peak():
    curve = [schedules.cosine_with_restarts(step, total=30, cycles=3) for step in range(31)]
    assert [step for step, rate in enumerate(curve) if rate == 1] == [0, 10, 20]


def test_state_survives_a_checkpoint():
    first = schedules.scheduler(sgd(0.1), "cosine", warmup=3, total=20)
    expected = rates(first, 20, 0.1)
    stopped = schedules.scheduler(sgd(0.1), "cosine", warmup=3, total=20)
    rates(stopped, 8, 0.1)
    resumed = schedules.scheduler(sgd(0.1), "cosine", warmup=3, total=20)
    resumed.load_state_dict(stopped.state_dict())
    resumed.optimizer.load_state_dict(stopped.optimizer.state_dict())
    assert rates(resumed, 12, 0.1) == expected[8:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e9])
@pytest.mark.parametrize("scale", [0.0, 1e-8, 1.0, 1e15])
def test_clipping_equals_torch(dtype, max_norm, scale):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).to(dtype)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * scale
    model[0].bias.grad = None
    twin = copy.deepcopy(model)
    for original, copied in zip(model.parameters(), twin.parameters(), strict=True):
        copied.grad = None if original.grad is None else original.grad.clone()
    norm = schedules.clip_gradients(model.parameters(), max_norm)
    expected = torch.nn.utils.clip_grad_norm_(twin.parameters(), max_norm)
    tolerance = {"rtol": 1e-10 if dtype == torch.float64 else 1e-5, "atol": 0}
    torch.testing.assert_close(norm, expected, **tolerance)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clipping_not_finite_as_in_torch(bad):
    ours, theirs = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    ours.grad, theirs.grad = torch.tensor([bad, 1.0]), torch.tensor([bad, 1.0])
    norm = schedules.clip_gradients(ours, 1.0)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(theirs, 1.0), equal_nan=True)
    torch.testing.assert_close(ours.grad, theirs.grad, equal_nan=True)


def test_clipping_without_gradients():
    assert schedules.clip_gradients([nn.Parameter(torch.zeros(2))], 1.0) == 0
