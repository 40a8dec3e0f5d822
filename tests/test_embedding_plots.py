"""Maps of embeddings show every point, name the largest classes, and refuse what does not fit."""

import warnings

import matplotlib
import numpy as np
import pytest

from cookbook import embedding_plots

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def drawn_without_a_warning():
    import matplotlib.pyplot as plt

    plt.close("all")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for number in plt.get_fignums():
            plt.figure(number).draw_without_rendering()
    plt.close("all")


def test_every_point_is_drawn_once_and_the_largest_classes_are_named():
    labels = [str(n) for n in range(9) for _ in range(n + 1)]
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    ax = embedding_plots.scatter(points, labels, title="nine")
    drawn = np.concatenate([c.get_offsets() for c in ax.collections])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))
    assert [text.get_text() for text in ax.texts] == ["8", "7", "6", "5", "4", "3", "2"]
    assert len(ax.collections[0].get_offsets()) == 1 + 2  # classes 0 and 1, in grey


def test_a_name_stands_at_the_median_of_its_class():
    ax = embedding_plots.scatter([[0, 0], [1, 2], [50, 3]], ["a"] * 3)
    assert ax.texts[0].get_position() == (1, 2)


@pytest.mark.parametrize("points", [[[1, 2, 3]], [[1, 2], [3, 4]], [1, 2]])
def test_points_that_do_not_fit_are_refused(points):
    with pytest.raises(ValueError, match="n labels"):
        embedding_plots.scatter(points, ["a"])


def test_a_path_starts_at_a_ring_and_ends_at_its_name():
    ax = embedding_plots.plane({"x": [(-1, 0.5), (-2, 0.25)], "y": [(-3, 0.125)]})
    assert [text.get_text() for text in ax.texts] == ["x", "y"]
    assert ax.texts[0].xy == (-2, 0.25)
    line, start, end = ax.lines[:3]
    assert line.get_xdata().tolist() == [-1, -2]
    assert start.get_markerfacecolor() == "white" and start.get_xdata() == [-1]
    assert end.get_xdata() == [-2] and end.get_ydata() == [0.25]


def test_draws_on_given_axes_and_leaves_the_style_alone():
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    _, (left, right) = plt.subplots(1, 2)
    assert embedding_plots.scatter(np.zeros((0, 2)), [], ax=left) is left
    assert embedding_plots.plane({}, ax=right) is right
    assert dict(matplotlib.rcParams) == before
