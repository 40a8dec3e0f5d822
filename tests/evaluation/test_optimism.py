"""Chosen on the rows that are quoted, a score is too good; chosen on others, it is not."""

import numpy as np
import pytest

from cookbook.evaluation.optimism import simulate


def coins(runs, rows, seed=0):
    return np.random.default_rng(seed).random((runs, rows)) < 0.5


def test_the_best_of_many_coins_looks_as_good_as_the_normal_law_says():
    found = simulate(coins(40, 3000), size=100, choices=[1, 2, 40], draws=400)
    sigma = 0.05  # of a mean of 100 fair coins
    assert found["on test"][1] == pytest.approx(0, abs=0.01)
    assert found["on test"][2] == pytest.approx(sigma / np.sqrt(np.pi), abs=0.01)
    assert found["on test"][40] == pytest.approx(2.16 * sigma, abs=0.01)  # E max of 40 normals
    assert found["on validation"].abs().max() < 0.015
    assert (found["low on test"] < found["on test"]).all()
    assert (found["on test"] < found["high on test"]).all()


def test_nothing_to_choose_is_nothing_to_be_optimistic_about():
    same = np.tile(coins(1, 400), (10, 1))
    found = simulate(same, size=50, choices=[1, 10], draws=400)
    assert (found["on test"] == found["on validation"]).all()
    assert found["on test"].abs().max() < 0.015


def test_what_cannot_be_simulated_is_said():
    with pytest.raises(ValueError, match="leave none to play the world"):
        simulate(coins(3, 100), size=50, choices=[1])
    with pytest.raises(ValueError, match="between 1 and the 3 runs"):
        simulate(coins(3, 100), size=10, choices=[1, 4])
