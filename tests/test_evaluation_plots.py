"""Figures take axes and give them back, draw what they are given, and nothing past the frame."""

import numpy as np
import pytest

from cookbook import evaluation_plots as plots

CASES = {
    "reliability": lambda ax: plots.reliability({"a": ([0.5, 0.9], [0.4, 0.8], [3, 30])}, ax=ax),
    "curves": lambda ax: plots.threshold_curves(
        {"a": ([0, 0, 1], [0, 1, 1])}, x_label="x", y_label="y", diagonal=True, level=0.2, ax=ax
    ),
    "tokens": lambda ax: plots.tokens({"gradient": (["a", "b"], [1.0, -0.5])}, ax=ax),
}


@pytest.mark.parametrize("name", CASES)
def test_draws_on_the_axes_it_is_given(name):
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    assert CASES[name](ax) is ax
    figure.canvas.draw()
    plt.close(figure)


def test_a_bin_of_more_rows_is_a_larger_dot():
    ax = CASES["reliability"](None)
    small, large = ax.collections[0].get_sizes()
    assert large > 3 * small


def test_colour_is_the_sign_and_strength_is_the_size():
    ax = plots.tokens({"gradient": (["a", "b", "c"], [2.0, -1.0, 0.0])})
    strengths = [patch.get_alpha() for patch in ax.patches]
    assert strengths == [1.0, 0.5, 0.0]
    assert ax.patches[0].get_facecolor()[:3] != ax.patches[1].get_facecolor()[:3]


def test_long_texts_are_cut_and_scores_of_nothing_are_drawn():
    ax = plots.tokens({"zero": (["w"] * 100, np.zeros(100))}, per_line=10)
    assert len(ax.patches) == 20
