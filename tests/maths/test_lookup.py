"""One head learns who belongs to whom, and without 1/sqrt(d_k) it stops before it began."""

import math

import pytest

from cookbook.maths.lookup import learn_lookup


def test_a_scaled_head_finds_every_partner():
    run = learn_lookup(64, scaled=True, symbols=8, steps=100)
    assert run.accuracy == 1 and run.losses[-1][1] < 0.05
    assert [step for step, _ in run.losses] == list(range(100))


@pytest.mark.parametrize("scaled", [True, False])
def test_one_symbol_is_its_own_partner(scaled):
    run = learn_lookup(8, scaled=scaled, symbols=1, steps=2)
    assert run.accuracy == 1 and run.losses == [(0, 0), (1, 0)] and run.slopes == [(0, 0), (1, 0)]


def test_without_the_scale_a_wide_head_stays_confidently_wrong():
    scaled, raw = (learn_lookup(256, scaled=s, steps=40) for s in (True, False))
    assert scaled.accuracy > 0.8 and scaled.losses[-1][1] < scaled.losses[0][1] / 3
    assert raw.accuracy < 0.1 and raw.losses[-1][1] > 1.5  # more than looking everywhere: 63/64
    assert raw.slopes[-1][1] < 0.2 < 0.8 < scaled.slopes[0][1]


def test_the_first_loss_is_nearly_that_of_looking_everywhere():
    (_, first), *_ = learn_lookup(64, scaled=True, symbols=64, steps=1).losses
    assert math.isclose(first, 1 - 1 / 64, rel_tol=0.05)


def test_a_seed_gives_the_same_run_again():
    runs = [learn_lookup(16, scaled=True, symbols=4, steps=5, seed=s) for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
