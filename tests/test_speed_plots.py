"""Figures about speed: what is drawn is what was given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cookbook import speed_plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_rungs_show_medians_whiskers_and_what_was_not_measured():
    left, right = speed_plots.rungs(
        {"padded": [1.0, 3.0, 2.0], "compiled": [5.0, 5.0, 5.0]}, {"padded": 4e6, "compiled": None},
        aside=1,
    )  # fmt: skip
    assert [bar.get_width() for bar in left.patches] == [2.0, 5.0]
    assert left.patches[0].get_facecolor() != left.patches[1].get_facecolor()
    assert [text.get_text() for text in right.texts] == ["4", "not measured"]
    assert [label.get_text() for label in left.get_yticklabels()] == ["padded", "compiled"]


def test_shares_lie_end_to_end_also_where_a_part_is_missing():
    ax = speed_plots.shares({"a": {"x": 0.25, "y": 0.75}, "b": {"y": 1.0}})
    boxes = {(bar.get_y(), bar.get_x(), bar.get_width()) for bar in ax.patches if bar.get_width()}
    assert {(x, width) for _, x, width in boxes} == {(0.0, 0.25), (0.25, 0.75), (0.0, 1.0)}


def test_magnitudes_count_every_number_but_nought():
    values = np.array([0.0, 1.0, 1.5, -0.25, 2.0**-20])
    ax = speed_plots.magnitudes(values, {"least": 2.0**-24})
    assert sum(bar.get_height() for bar in ax.patches) == 4
    heights = {round(np.log2(bar.get_x())): bar.get_height() for bar in ax.patches}
    assert heights[0] == 2 and heights[-2] == 1 and heights[-20] == 1
    assert ax.texts[0].get_text() == "least"
