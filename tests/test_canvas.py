"""The shared style: switched on while drawing and off afterwards; labels where they belong."""

import matplotlib
import numpy as np
import pytest

from cookbook import canvas


@pytest.fixture(autouse=True)
def closed():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


@pytest.fixture
def ax():
    with canvas.canvas(None, (4, 3)) as ax:
        return ax


def test_the_style_does_not_leak():
    before = dict(matplotlib.rcParams)
    with canvas.canvas(None, (4, 3)) as ax:
        assert not ax.spines["top"].get_visible()
        assert matplotlib.rcParams["axes.titlelocation"] == "left"
    assert dict(matplotlib.rcParams) == before


def test_given_axes_are_used(ax):
    with canvas.canvas(ax, (9, 9)) as again:
        assert again is ax
    assert ax.figure.get_size_inches().tolist() == [4, 3]


def contrast(first, second):
    """Contrast ratio of two colours, WCAG 2.1: from 1 (the same) to 21 (black on white)."""

    def luminance(color):
        rgb = np.array(matplotlib.colors.to_rgb(color))
        linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_differ_and_show_on_white():
    assert len(set(canvas.PALETTE)) == len(canvas.PALETTE)
    assert all(contrast(color, "white") > 2.2 for color in canvas.PALETTE)
    assert min(contrast(color, "white") for color in (canvas.INK, canvas.GREY)) > 4.5


@pytest.mark.parametrize(("largest", "first"), [(50_000, "10,000"), (0.5, "0.1")])
def test_large_numbers_on_the_axis_have_separators(ax, largest, first):
    ax.plot([0, largest], [0, 1])
    canvas.finish(ax, "", "", "", grid="x")
    ax.figure.draw_without_rendering()
    assert first in [label.get_text() for label in ax.get_xticklabels()]


def test_a_title_makes_room_for_the_name_of_a_level(ax):
    canvas.finish(ax, "Title", "", "", grid="x")
    plain = ax.titleOffsetTrans.get_matrix()[1, 2]
    canvas.level(ax, 0.5, "majority")
    canvas.finish(ax, "Title", "", "", grid="x")
    assert ax.titleOffsetTrans.get_matrix()[1, 2] > plain


def test_the_first_row_is_on_top(ax):
    canvas.finish_rows(ax, ["first", "second"], "", "", (0, 1))
    low, high = ax.get_ylim()
    assert low > high
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert ax.get_xlim() == (0, 1)


def test_numbers_stand_outside_their_bar(ax):
    canvas.beside(ax, 3, 0, "3")
    canvas.beside(ax, -3, 1, "-3")
    assert [text.get_horizontalalignment() for text in ax.texts] == ["left", "right"]


def test_names_keep_their_order_and_their_distance(ax):
    ax.set_ylim(0, 10)
    canvas.name_ends(ax, [(5.0, "b", "k"), (4.9, "a", "k"), (9.0, "c", "k")])
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    assert heights["a"] == 4.9
    assert heights["b"] == pytest.approx(4.9 + 0.65)
    assert heights["c"] == 9.0
