import pytest
from hypothesis import given
from hypothesis import strategies as st

from cookbook.scaling import links
from cookbook.scaling.devices import Device, Work, plan
from cookbook.scaling.links import Link, fitted, ring_seconds
from cookbook.scaling.world import joined


@given(bandwidth=st.floats(1e6, 1e12), latency=st.floats(1e-7, 1e-2), ranks=st.integers(2, 64))
def test_what_was_put_in_is_found_again(bandwidth, latency, ranks):
    link, sizes = Link(bandwidth, latency), (4e3, 4e6, 4e9)
    found = fitted(sizes, [ring_seconds(size, ranks, link) for size in sizes], ranks)
    assert found.latency == pytest.approx(latency, rel=1e-3)
    assert found.bandwidth == pytest.approx(bandwidth, rel=1e-3) or latency > 1e4 * 4e9 / bandwidth


def test_it_is_the_same_formula_as_the_plans():
    work, link = Work(8e6, 8e6, 16e6, 0, operations=0, steps=1), Link(1e9, 1e-4)
    for ranks in (1, 2, 7):
        found = plan(work, Device(1e9, 1e12, link.bandwidth, link.latency), ranks)
        assert found.communication_seconds == pytest.approx(ring_seconds(8e6, ranks, link))


def test_noise_does_not_give_a_negative_link():
    found = fitted([1e3, 1e6], [2e-3, 1e-3], 2)
    assert found.bandwidth > 0 and found.latency >= 0


def test_one_rank_has_no_link():
    with joined() as world, pytest.raises(ValueError, match="at least two"):
        links.measured(world)


@pytest.mark.ranks
def test_two_ranks_measure_theirs(two_ranks):
    seconds, (bandwidth, latency) = two_ranks[0]["link"]
    assert len(seconds) == 2 and min(seconds) > 0
    assert bandwidth > 0 and latency >= 0
