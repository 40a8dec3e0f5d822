"""Many devices on paper: hand-worked plans, and what must hold for any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.scaling.devices import Device, Work, plan

WORK = Work(4e9, 4e9, 8e9, 2e9, operations=1e15, steps=1000, largest_layer=1e8)
FAST = Device(rate=1e14, memory=24e9, bandwidth=1e10, latency=1e-3, price=2.0)


def test_ddp_by_hand():
    """4 devices: 2 · 3/4 · 4 GB at 10 GB/s are 0.6 s, and 6 turns of the ring 6 ms."""
    found = plan(WORK, FAST, 4)
    assert found.memory == 16e9 + 2e9 + 4e9 and found.fits
    assert found.sent == 6e9
    assert found.compute_seconds == pytest.approx(2.5)
    assert found.communication_seconds == pytest.approx(0.606)
    assert found.step_seconds == pytest.approx(3.106)
    assert found.hours == pytest.approx(1000 * 3.106 / 3600)
    assert found.cost == pytest.approx(4 * 2.0 * found.hours)


def test_fsdp_by_hand():
    """4 devices: a quarter of the states, two gathered layers; half as much again is sent."""
    found = plan(WORK, FAST, 4, strategy="fsdp")
    assert found.memory == 4e9 + 2e8 + 2e9
    assert found.sent == 9e9
    assert found.communication_seconds == pytest.approx(0.9 + 9e-3)


def test_communication_hides_behind_the_backward_pass():
    """Two thirds of 2.5 s are more than 0.606 s: nothing of it is left to wait for."""
    assert plan(WORK, FAST, 4, overlap=1.0).efficiency == 1.0
    half = plan(WORK, FAST, 4, overlap=0.2)
    assert half.step_seconds == pytest.approx(2.5 + 0.606 - 0.2 * 2 / 3 * 2.5)


def test_what_does_not_fit_is_said():
    small = Device(rate=1e14, memory=10e9, bandwidth=1e10)
    assert not plan(WORK, small, 8).fits
    assert plan(WORK, small, 8, strategy="fsdp").fits


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_device_sends_nothing(strategy):
    found = plan(WORK, FAST, 1, strategy=strategy)
    assert found.sent == found.communication_seconds == 0
    assert found.memory == 18e9 and found.efficiency == 1.0


@given(n=st.integers(1, 1024), strategy=st.sampled_from(["ddp", "fsdp"]), o=st.floats(0, 1))
def test_more_devices_are_never_slower_to_compute_and_never_cheaper(n, strategy, o):
    one, two = (plan(WORK, FAST, k, strategy=strategy, overlap=o) for k in (n, 2 * n))
    assert two.compute_seconds < one.compute_seconds
    assert two.cost >= one.cost * (1 - 1e-9)
    assert 0 < two.efficiency <= 1


def test_wrong_questions():
    with pytest.raises(ValueError, match="ddp or fsdp"):
        plan(WORK, FAST, 2, strategy="zero")
    with pytest.raises(ValueError, match="at least one"):
        plan(WORK, FAST, 0)
