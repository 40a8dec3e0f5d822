import numpy as np
import pytest

from cookbook.doctor import curves


def test_noise_sees_the_scatter_and_not_the_trend():
    random = np.random.default_rng(0)
    line = np.linspace(10, 0, 500)
    assert curves.noise(line) == pytest.approx(0, abs=1e-9)
    assert curves.noise(line + random.normal(0, 0.3, 500)) == pytest.approx(0.3, rel=0.15)
    assert curves.noise([1.0, 2.0]) == 0.0


def test_running_means_and_the_whole():
    assert curves.running_mean([2.0, 4.0, 6.0], 3).tolist() == [4.0]


def test_change_comes_with_an_error_that_holds_it_back():
    random = np.random.default_rng(1)
    flat = 1 + random.normal(0, 0.2, 200)
    moved, error = curves.change(flat)
    assert abs(moved) < 3 * error
    moved, error = curves.change(flat - np.linspace(0, 1, 200))
    assert moved < -5 * error


def test_outliers_raise_the_standard_error():
    quiet = [1.0, 1.1] * 20
    assert curves.standard_error([*quiet, 9.0, 1.0], 10) > curves.standard_error(quiet, 10)
    assert np.isnan(curves.median([])) and curves.spread_of_steps([1.0]) == 0.0
