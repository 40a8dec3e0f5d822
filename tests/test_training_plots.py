"""The figures of chapter 08 draw what they are given and return their axes."""

import numpy as np
import pytest
from matplotlib import pyplot

from cookbook import training_plots as plots


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def lines(ax):
    return [line.get_xydata() for line in ax.lines]


def test_range_test_draws_both_lines_and_its_marks():
    rates = np.geomspace(1e-5, 1e-1, 9)
    losses, smooth = np.linspace(2, 1, 9), np.linspace(2, 1.2, 9)
    ax = plots.range_test(rates, losses, smooth, marks={"lowest": 1e-2, "a tenth": 1e-3})
    assert np.allclose(lines(ax)[1], np.c_[rates, smooth])
    assert [text.get_text() for text in ax.texts] == ["lowest", "a tenth"]
    assert [line[0, 0] for line in lines(ax)[2:]] == [1e-2, 1e-3]


def test_by_rate_sorts_and_rings_the_best():
    ax = plots.by_rate({"SGD": [(0.1, 0.4), (0.01, 0.6), (1.0, 0.2)]})
    assert lines(ax)[0][:, 0].tolist() == [0.01, 0.1, 1.0]
    assert lines(ax)[1].tolist() == [[0.01, 0.6]]


def test_by_setting_takes_numbers_names_and_broken_runs():
    ax = plots.by_setting([1e-4, 1e-3, 1e-2], [0.5, 0.7, np.nan], log=True)
    assert len(lines(ax)[0]) == 2 and lines(ax)[1].tolist() == [[1e-3, 0.7]]
    named = plots.by_setting(["linear", "cosine", "linear"], [0.1, 0.2, 0.3])
    assert [tick.get_text() for tick in named.get_xticklabels()] == ["cosine", "linear"]
    assert lines(named)[1].tolist() == [[1.0, 0.3]]
    nothing = plots.by_setting([True, False], [np.nan, np.nan])
    assert [tick.get_text() for tick in nothing.get_xticklabels()] == ["False", "True"]


def test_log_lines_leave_out_what_has_no_logarithm_and_keep_names_apart():
    ax = plots.log_lines({"a": [(1, 0.0), (2, 0.1)], "b": [(1, 1.0), (2, 0.1)]},
                         reference={"first step": 1.0})  # fmt: skip
    assert lines(ax)[1].tolist() == [[2, 0.1]]
    heights = sorted(text.xy[1] for text in ax.texts)
    assert heights[1] > heights[0] * 1.05
    assert {text.get_text() for text in ax.texts} == {"a", "b", "first step"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plots.range_test([1e-3, 1e-2], [1.0, 2.0], [1.0, 2.0], ax=ax),
        lambda ax: plots.by_rate({"a": [(1e-3, 0.5)]}, ax=ax),
        lambda ax: plots.by_setting([1, 2], [0.1, 0.2], ax=ax),
        lambda ax: plots.log_lines({"a": [(1, 1.0), (2, 2.0)]}, ax=ax),
    ],
)
def test_draws_into_given_axes(draw):
    given = pyplot.subplots()[1]
    assert draw(given) is given
