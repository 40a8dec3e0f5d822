"""Stacked parts end where their sum is, and each point stands where its numbers say."""

import matplotlib.pyplot as plt
import pytest

from cookbook.selection_plots import foretold, stacks


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_parts_lie_end_to_end_and_the_mark_where_it_should():
    ax = stacks({"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 4}}, {"a": 2.5, "b": 6}, mark="peak")
    ends = sorted((bar.get_x(), bar.get_width()) for bar in ax.patches)
    assert ends == [(0, 1), (0, 3), (1, 2), (3, 4)]
    assert [float(line.get_xdata()[0]) for line in ax.lines] == [2.5, 6.0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["x", "y", "peak"]


def test_points_and_names():
    points = {"good": (0.8, 0.9), "bad": (0.1, 0.3)}
    ax = foretold(points, x_label="probe")
    found = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines}
    assert found == set(points.values())
    assert {text.get_text(): text.xy for text in ax.texts} == points
    assert ax.get_xlabel() == "probe"


def test_of_two_close_points_the_higher_is_named_above_and_the_other_below():
    points = {"a": (0.64, 0.68), "b": (0.65, 0.70), "far": (0.1, 0.2)}
    sides = {text.get_text(): text.get_va() for text in foretold(points).texts}
    assert (sides["a"], sides["b"]) == ("top", "bottom")
